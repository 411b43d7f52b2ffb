"""From a run's events to bytes on the wire: one JSON body, or server-sent events."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Send

from decoders.core import Prompt
from decoders.events import Done, Event
from server.http import report
from server.http.errors import payload, response
from server.http.openai_format import Json, Shape
from server.http.report import Reported
from server.http.schemas.common import StreamOptions

PADDED = 256  # bytes: where it is asked for, every chunk has a multiple of them, and so hides how long its text is
HEARTBEAT = 1.0  # seconds without a byte, after which a comment says that the work goes on


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """The answer that a request asked for."""

    shape: Shape
    model: str
    prompts: Sequence[Prompt]
    n: int
    """Choices for each prompt."""
    strategy: str
    reported: Reported
    reports: bool
    """Whether the request has a `decoding` object: if so, the answer has one too."""


class _Base:
    def __init__(self, send: Send, spec: AnswerSpec) -> None:
        self._client = send
        self._spec = spec
        self._dones: dict[int, Done] = {}
        self._head = {"id": spec.shape.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": spec.model}

    @property
    def _all_done(self) -> list[Done]:
        return [self._dones[i] for i in range(len(self._spec.prompts))]

    def _decoding(self, queued: float) -> Json:
        spec = self._spec
        if not spec.reports:
            return {}
        return {"decoding": report.decoding(spec.strategy, spec.reported, self._all_done, queued)}


class JsonWriter(_Base):
    """One body at the end."""

    def writing(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def write(self, index: int, event: Event) -> None:
        if isinstance(event, Done):
            self._dones[index] = event

    async def finish(self, queued: float) -> None:
        dones = self._all_done
        choices = [
            self._spec.shape.choice(p * self._spec.n + i, self._spec.prompts[p], result.candidate)
            for p, done in enumerate(dones)
            for i, result in enumerate(done.results)
        ]
        usage = report.usage(self._spec.prompts, [done.cost.generated_tokens for done in dones])
        body = {
            **self._head,
            "object": self._spec.shape.whole,
            "choices": choices,
            "usage": usage,
            **self._decoding(queued),
        }
        await send_json(body, self._client)

    async def fail(self, error: Exception) -> None:
        await response(error)(_SCOPE, _no_receive, self._client)


class EventWriter(_Base):
    """Server-sent events: a chunk per step, comments while there is nothing to send yet.

    The response begins with its first byte, so that an error before it still has a status of its own.
    """

    def __init__(self, send: Send, spec: AnswerSpec, options: StreamOptions) -> None:
        super().__init__(send, spec)
        self._options = options
        self._tokens = 0  # that were sent
        self._began = False
        self._sent = time.monotonic()
        self._last: Json | None = None  # held back: the last chunk of all carries `decoding`
        self._turn = asyncio.Lock()  # of who writes: `send` may wait for a slow client, and a comment must not pass it
        self._ended = False

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        beat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.wait((beat,))

    async def write(self, index: int, event: Event) -> None:
        if isinstance(event, Done):
            self._dones[index] = event
            return
        choice = self._spec.shape.piece(index * self._spec.n + event.index, self._spec.prompts[index], event.piece)
        self._tokens += len(event.piece.tokens)
        chunk = self._chunk([choice])
        if self._last is not None:
            await self._send(self._last)
            self._last = None
        if event.piece.finish is None:
            await self._send(chunk)
        else:
            self._last = chunk

    async def finish(self, queued: float) -> None:
        last = self._last or self._chunk([])
        if self._options.include_usage:
            if self._last is not None:
                await self._send(self._last)
            last = self._chunk([])
        if self._options.include_usage or self._options.continuous_usage_stats:
            last["usage"] = report.usage(self._spec.prompts, [done.cost.generated_tokens for done in self._all_done])
        await self._send({**last, **self._decoding(queued)})
        await self._end()

    async def fail(self, error: Exception) -> None:
        if not self._began:
            await response(error)(_SCOPE, _no_receive, self._client)
            return
        if self._last is not None:  # what was drawn is the client's, whatever failed after it
            await self._send(self._last)
        await self._write(b"data: " + _json(payload(error)) + b"\n\n")
        await self._end()

    def _chunk(self, choices: list[Json]) -> Json:
        chunk = {**self._head, "object": self._spec.shape.chunk, "choices": choices}
        if self._options.continuous_usage_stats:
            chunk["usage"] = report.usage(self._spec.prompts, [self._tokens])
        elif self._options.include_usage:
            chunk["usage"] = None
        return chunk

    async def _send(self, chunk: Json) -> None:
        if self._options.include_obfuscation and chunk["choices"]:
            chunk = {**chunk, "obfuscation": ""}
            chunk["obfuscation"] = "x" * (-len(_json(chunk)) % PADDED)
        await self._write(b"data: " + _json(chunk) + b"\n\n")

    async def _write(self, data: bytes) -> None:
        async with self._turn:
            await self._put(data)

    async def _put(self, data: bytes) -> None:
        self._sent = time.monotonic()
        if not self._began:
            self._began = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
            ]
            await self._client({"type": "http.response.start", "status": 200, "headers": headers})
        await self._client({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self) -> None:
        async with self._turn:
            self._ended = True
            await self._put(b"data: [DONE]\n\n")
            await self._client({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self) -> None:
        started = time.monotonic()
        while True:
            async with self._turn:
                quiet = time.monotonic() - self._sent
                if self._ended:
                    return
                if quiet >= HEARTBEAT:
                    worked = time.monotonic() - started
                    await self._put(f": {self._spec.strategy} has worked for {worked:.0f} s\n\n".encode())
                    quiet = 0.0
            await asyncio.sleep(HEARTBEAT - quiet)


_SCOPE = {"type": "http"}


async def _no_receive() -> Any:
    raise AssertionError("a plain response reads nothing")


async def send_json(body: Json, send: Send) -> None:
    await Response(_json(body), media_type="application/json")(_SCOPE, _no_receive, send)


def _json(body: Json) -> bytes:
    return to_json(body, inf_nan_mode="null")
