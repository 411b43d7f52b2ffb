"""The writer of a request's answer as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Send

from decoders.events import Done, Event
from server.http import report
from server.http.answer import Answer, AnswerSpec
from server.http.errors import error_answer, error_response
from server.http.openai_format import Choice, Chunk
from server.http.report_headers import comment, report_headers
from server.http.response_writers import send_response
from server.http.schemas.common import StreamOptions

PADDED = 256  # bytes: padded chunks are a multiple of this long, which hides how long their text is
EMPTY_PADDING = len(b',"obfuscation":""')
HEARTBEAT = 1.0  # seconds without a byte, after which a comment says that the server is still working
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class EventWriter:
    """Sends a chunk for each step of the run, and comments while there is nothing to send yet.

    The response starts with its first byte: an error before it still has a status of its own.
    """

    def __init__(self, send: Send, spec: AnswerSpec, options: StreamOptions) -> None:
        self._send = send
        self._spec = spec
        self._options = options
        self._answer = Answer(spec)
        self._tokens = 0  # sent so far, for the usage so far
        self._last: Chunk | None = None  # held back, since `decoding` goes into the last chunk of all
        self._started = False
        self._ended = False
        self._commented = False  # a comment was sent last
        self._sent = time.monotonic()  # when the last byte was sent
        self._turn = (
            asyncio.Lock()
        )  # held while writing: `send` may wait for a slow client, and a comment must not pass

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        heartbeat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            heartbeat.cancel()
            await asyncio.wait((heartbeat,))

    async def write(self, index: int, event: Event) -> None:
        if isinstance(event, Done):
            self._answer.ends[index] = event
            return
        spec = self._spec
        choice = spec.format.piece(index * spec.n + event.index, spec.prompts[index], event.piece)
        self._tokens += len(event.piece.tokens)
        if choice is None:
            return
        chunk = self._chunk([choice])
        if self._last is not None:
            await self._write_chunk(self._last)
            self._last = None
        if event.piece.finish is None:
            await self._write_chunk(chunk)
        else:
            self._last = chunk

    async def finish(self, queued: float) -> None:
        choices: list[Any] = [] if self._last is None else self._last.choices
        usage = {}
        if self._options.include_usage or self._options.continuous_usage_stats:
            usage = {"usage": self._answer.usage()}
        if self._options.include_usage and self._last is not None:  # then the usage has a chunk of its own
            await self._write_chunk(self._last)
            choices = []
        report = self._answer.report(queued)
        shown = {"decoding": report} if self._spec.reports else {}
        await self._write_chunk(self._chunk(choices, **usage, **shown))
        await self._end(comment(report_headers(report)) if self._spec.reports else b"")

    async def fail(self, error: Exception) -> None:
        if not self._started:
            await send_response(error_response(error), self._send)
            return
        if self._last is not None:  # these tokens are final, whatever failed after them
            await self._write_chunk(self._last)
        await self._write(error_answer(error).to_json())
        await self._end()

    def _chunk(self, choices: list[Choice], **more: Any) -> Chunk:
        if "usage" not in more:
            if self._options.continuous_usage_stats:
                more["usage"] = report.usage(self._spec.prompts, [self._tokens])
            elif self._options.include_usage:
                more["usage"] = None
        return self._spec.format.chunk(choices, **self._answer.head, **more)

    async def _write_chunk(self, chunk: Chunk) -> None:
        data = chunk.to_json()
        if self._options.include_obfuscation and chunk.choices:
            padding = "x" * (-(len(data) + EMPTY_PADDING) % PADDED)
            data = chunk.model_copy(update={"obfuscation": padding}).to_json()
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        async with self._turn:
            # vllm bench serve strips what it reads: a comment would run into this chunk, so part them once more.
            parted, self._commented = b": \n\n" if self._commented else b"", False
            await self._put(parted + b"data: " + data + b"\n\n")

    async def _put(self, data: bytes) -> None:
        """Send bytes, and before the first of them the headers; the caller holds `_turn`."""
        self._sent = time.monotonic()
        if not self._started:
            self._started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self, last: bytes = b"") -> None:
        async with self._turn:
            self._ended = True
            await self._put(last + b"data: [DONE]\n\n")
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self) -> None:
        """Send a comment whenever nothing else was sent for `HEARTBEAT` seconds."""
        started = time.monotonic()
        while True:
            async with self._turn:
                quiet = time.monotonic() - self._sent
                if self._ended:
                    return
                if quiet >= HEARTBEAT:
                    worked = time.monotonic() - started
                    self._commented = True
                    await self._put(f": {self._spec.strategy} has worked for {worked:.0f} s\n\n".encode())
                    quiet = 0.0
            await asyncio.sleep(HEARTBEAT - quiet)
