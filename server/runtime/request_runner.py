"""One request's work, from admission to the end of its answer.

The work is one task. It ends in one of these ways, and no engine work is left behind: it is done; it fails; it takes
too long; the client leaves; the server shuts down.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from decoders.core import Prompt, Rng, Sampling, Turns
from decoders.errors import DecantError, InvalidRequest
from decoders.events import Event, Run, Step
from decoders.models import Models
from decoders.parts.concurrency import merge, together
from decoders.rng import SeededRng
from decoders.sample import Draw
from server.errors import RequestTimeout
from server.runtime.accounting import accounting_line
from server.runtime.client import ANYONE, Client
from server.runtime.lane import Place
from server.runtime.outcomes import FORESEEN, outcome, refusal
from server.runtime.state import ServerState
from server.runtime.usage import Usage
from server.telemetry import spans
from server.telemetry.request_info import request_info

log = logging.getLogger("decant")


class Runnable(Protocol):
    """The part of a strategy that running it needs."""

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int: ...

    def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run: ...


class Writer(Protocol):
    """Sends the answer of one request to its client."""

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Return a context in which the work is done, the wait for admission included."""

    async def write(self, index: int, event: Event) -> None:
        """Take an event of the request's prompt number `index`."""

    async def finish(self, queued: float) -> None:
        """Send what is left, after the last event. The request had waited `queued` seconds for admission."""

    async def fail(self, error: Exception) -> None:
        """Send `error`, before or after a part of the answer."""


@dataclass(frozen=True, slots=True)
class Job:
    """A strategy to run on each prompt, and how each prompt is sampled."""

    strategy: Runnable
    name: str
    prompts: Sequence[tuple[Prompt, Sampling]]
    seed: int | None
    arrived: float = field(default_factory=time.perf_counter)
    """When the request came, before its body was read, in `perf_counter`'s seconds."""
    client: Client = ANYONE
    """Who sent it."""
    as_sent: Callable[[InvalidRequest], InvalidRequest] = lambda error: error
    """Gives an error of the strategy the field that the caller wrote."""
    max_generated: int = 0
    """The most tokens that it may generate."""
    read_tokens: int = 0
    """The tokens of texts that it reads beside the prompts."""
    read_rewards: int = 0
    """The calls of rewards that are its own, and not its strategy's."""
    model: str | None = None
    """The model that the client named."""
    cost_field: str | None = None
    """The field that decides how much it may draw, for an error."""

    async def max_sequences(self, models: Models) -> int:
        """Return how many sequences all the prompts together may be drawing at the same time."""
        widths = await together(
            self.strategy.max_sequences(prompt, models, sampling) for prompt, sampling in self.prompts
        )
        return sum(widths)

    def usage(self) -> Usage:
        """Return a count of what it uses, which is nothing so far."""
        read = self.read_tokens + sum(len(prompt.tokens) for prompt, _ in self.prompts)
        steps_are_all = isinstance(self.strategy, Draw) and self.prompts[0][1].stream
        return Usage(read, self.max_generated, self.read_rewards, steps_are_all=steps_are_all)

    def runs(self, models: Models, turns: Turns | None) -> list[Run]:
        """Start one run for each prompt, with a random stream of its own; their draws ask `turns` for places."""
        return [
            self.strategy.decode(replace(prompt, turns=turns), models, sampling, SeededRng(self.seed, stream=i))
            for i, (prompt, sampling) in enumerate(self.prompts)
        ]


class RequestRunner:
    """Runs one job and has its answer written."""

    def __init__(self, state: ServerState, job: Job) -> None:
        self._state = state
        self._job = job
        self._usage = job.usage()
        self._work: asyncio.Task[None] | None = None
        self._stopped: DecantError | None = None

    async def run(self, writer: Writer) -> None:
        """Do the job; return when the answer or an error is written and all work has ended."""
        metrics, job = self._state.metrics, self._job
        ended = "cancelled"
        metrics.began(job.name)
        info = request_info()
        info.strategy = job.name
        with self._state.running.include(self):
            self._work = asyncio.create_task(self._answer(writer))
            try:
                await asyncio.wait((self._work,))
                if not self._work.cancelled():
                    self._work.result()
                    ended = "ok"
                elif self._stopped is not None:
                    raise self._stopped
                else:
                    info.error = "ClientLeft"
            except Exception as error:
                ended = outcome(error)
                self._report(error)
                await writer.fail(job.as_sent(error) if isinstance(error, InvalidRequest) else error)
            finally:
                await _end(self._work)
                self._ended(ended, time.perf_counter() - job.arrived)

    def stop(self, error: DecantError) -> None:
        """End the work; the client gets `error`."""
        self._stopped = error
        if self._work is not None:
            self._work.cancel()

    def abandon(self) -> None:
        """End the work of a client that has left, unless it is ending already."""
        if self._work is not None and self._stopped is None:
            self._work.cancel()

    async def _answer(self, writer: Writer) -> None:
        seconds = self._state.settings.request_timeout_s
        try:
            async with asyncio.timeout(seconds) as limit, writer.writing():
                await self._decode(writer)
        except TimeoutError as error:
            if not limit.expired():  # this TimeoutError was raised by the work itself
                raise
            raise RequestTimeout(f"The request took more than {seconds:g} s.") from error

    async def _decode(self, writer: Writer) -> None:
        """Wait for a place, run the strategy on each prompt, and have what it yields written."""
        state, job, usage = self._state, self._job, self._usage
        metrics = state.metrics
        models = state.loaded.models if state.accounting is None else usage.counting(state.loaded.models)
        admitting = time.perf_counter()
        sequences = usage.sequences = await job.max_sequences(models)
        with self._within_limits():
            async with self._place(sequences) as place:
                usage.admitted = True
                queued = time.perf_counter() - admitting
                metrics.queued(job.name, queued)
                spans.record("queue", queued)
                first = True
                async with aclosing(merge(job.runs(models, place.turns))) as events:
                    async for index, event in events:
                        usage.add(index, event)
                        if isinstance(event, Step):
                            if first:
                                first = False
                                metrics.first_token(job.name, time.perf_counter() - job.arrived)
                        else:
                            spans.record_choice(event)
                            request_info().add(len(job.prompts[index][0].tokens), event)
                            metrics.answered(job.name, len(job.prompts[index][0].tokens), event)
                        await writer.write(index, event)
                place.used = usage.prompt_tokens + usage.generated_tokens
                await writer.finish(queued)

    def _place(self, sequences: int) -> AbstractAsyncContextManager[Place]:
        """Wait for a place among the requests of all clients."""
        job = self._job
        return self._state.admission.place(
            sequences,
            job.prompts[0][0].priority,
            tokens=max(sampling.max_tokens for _, sampling in job.prompts),
            extra=self._usage.prompt_tokens,
            flow=job.client.name,
            weight=job.client.weight,
        )

    @contextmanager
    def _within_limits(self) -> Iterator[None]:
        """Hold what the request may use of its client's limits, and give back what it did not use."""
        job, usage = self._job, self._usage
        with self._state.limiter.hold(job.client, usage.reserved, usage.sequences, job.cost_field) as use:
            cut_short = True
            try:
                yield
                cut_short = False
            except Exception:
                cut_short = False
                raise
            finally:
                use.used = usage.charged(cut_short=cut_short)

    def _ended(self, outcome: str, seconds: float) -> None:
        """Count the request and what it used, `seconds` after it arrived."""
        state, job, usage = self._state, self._job, self._usage
        state.metrics.ended(job.name, outcome, seconds)
        state.metrics.used(job.client.name, outcome, usage.read_tokens, usage.generated_tokens)
        if state.accounting is not None:
            model = job.model or state.model
            line = accounting_line(request_info().id, job.client.name, model, job.name, outcome, usage, seconds)
            state.accounting.write(line)

    def _report(self, error: Exception) -> None:
        """Count or log an error, by what it means to those who run the server."""
        if isinstance(error, FORESEEN):
            log.warning("a %s request failed: %s", self._job.name, error)
        elif (reason := refusal(error)) is not None:
            self._state.metrics.refused(reason)
        else:
            log.error("a request failed", exc_info=error)


async def _end(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
    await asyncio.wait((task,))
