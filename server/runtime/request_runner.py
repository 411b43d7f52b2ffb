"""One request's work, from admission to the last byte, as an ASGI response.

The work is one task. It ends in one of these ways, and each leaves no engine work behind: it is done; it fails with
an error of `server.http.errors`; it takes too long; the client leaves; the server shuts down.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from decoders.core import Prompt, Rng, Sampling
from decoders.errors import DecantError, InvalidRequest
from decoders.events import Run, Step
from decoders.models import Models
from decoders.parts.concurrency import merge, together
from decoders.rng import SeededRng
from server.errors import Overloaded, RequestTimeout
from server.http.errors import status
from server.http.response_writers import Writer
from server.runtime.service import Service

log = logging.getLogger("decant")


class Runnable(Protocol):
    """What of a strategy is run."""

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int: ...

    def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run: ...


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked: each prompt with how to sample it, by one strategy."""

    strategy: Runnable
    name: str
    prompts: Sequence[tuple[Prompt, Sampling]]
    seed: int | None
    arrived: float = field(default_factory=time.perf_counter)
    """When the request came, before its body was read, in `perf_counter`'s seconds."""

    async def max_sequences(self, models: Models) -> int:
        """How many sequences all its prompts together may be drawing at the same time."""
        widths = await together(
            self.strategy.max_sequences(prompt, models, sampling) for prompt, sampling in self.prompts
        )
        return sum(widths)


class Answer(Response):
    """Runs a job and writes what comes of it."""

    def __init__(
        self, service: Service, job: Job, writer: Writer
    ) -> None:  # the base class renders a body; this has none
        self._service = service
        self._job = job
        self._writer = writer
        self._work: asyncio.Task[None] | None = None
        self._stopped: DecantError | None = None
        self.background = None

    def stop(self, error: DecantError) -> None:
        """End the work; the client gets `error`."""
        self._stopped = error
        if self._work is not None:
            self._work.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        metrics, name = self._service.metrics, self._job.name
        outcome = "ok"
        metrics.began(name)
        self._service.begin(self)
        self._work = asyncio.create_task(self._run(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((self._work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not self._work.done() and self._stopped is None:
                outcome = "cancelled"
                self._work.cancel()
            await self._settle()
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = _outcome(error)
            await self._fail(error, send)
        finally:
            leaving.cancel()
            await _ended(self._work)
            self._service.end(self)
            metrics.ended(name, outcome, time.perf_counter() - self._job.arrived)

    async def _settle(self) -> None:
        """Wait for the work; raise what it raised, or the reason that it was stopped for."""
        assert self._work is not None
        try:
            await self._work
        except asyncio.CancelledError:
            if self._stopped is not None:
                raise self._stopped from None
            if not self._work.cancelled():  # it is this task that is cancelled
                raise

    async def _run(self, send: Send) -> None:
        service, job = self._service, self._job
        seconds = service.settings.request_timeout_s
        admitting = time.perf_counter()
        try:
            async with (
                asyncio.timeout(seconds) as limit,
                self._writer.writing(send),
                service.admission.place(await job.max_sequences(service.loaded.models)),
            ):
                queued = time.perf_counter() - admitting
                service.metrics.queued(job.name, queued)
                first = True
                async with aclosing(merge(self._runs())) as events:
                    async for index, event in events:
                        if isinstance(event, Step):
                            if first:
                                first = False
                                service.metrics.first_token(job.name, time.perf_counter() - job.arrived)
                        else:
                            service.metrics.answered(job.name, len(job.prompts[index][0].tokens), event)
                        await self._writer.write(index, event, send)
                await self._writer.finish(send, queued)
        except TimeoutError as error:
            if not limit.expired():  # some other time-out, which nobody typed
                raise
            raise RequestTimeout(f"The request took more than {seconds:g} s.") from error

    def _runs(self) -> list[Run]:
        job, models = self._job, self._service.loaded.models
        return [
            job.strategy.decode(prompt, models, sampling, SeededRng(job.seed, stream=i))
            for i, (prompt, sampling) in enumerate(job.prompts)
        ]

    async def _fail(self, error: Exception, send: Send) -> None:
        if isinstance(error, InvalidRequest | Overloaded):
            self._service.metrics.refused(error.reason if isinstance(error, Overloaded) else "invalid")
        elif status(error) == 500:
            log.error("a request failed", exc_info=error)
        else:  # a reward, a time-out, a dead engine: whoever runs the server wants to know
            log.warning("a %s request failed: %s", self._job.name, error)
        await self._writer.fail(error, send)


def _outcome(error: Exception) -> str:
    if isinstance(error, InvalidRequest):
        return "invalid"
    if isinstance(error, Overloaded):
        return "refused"
    return "timeout" if status(error) == 504 else "failed"


async def _left(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
    await asyncio.wait((task,))
