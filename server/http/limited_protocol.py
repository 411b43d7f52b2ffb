"""Uvicorn's HTTP protocol with limits to what a peer may hold and how slow it may be.

Uvicorn closes idle connections after an answer. Left to it, one that sends no request, or half a request, or that does
not read its answer, would stay for ever.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.http.connection_table import ConnectionTable
from server.http.schemas.server_responses import ErrorAnswer, ErrorDetail
from server.settings import ConnectionLimits

Closed = Literal["full", "per_peer", "evicted", "slow_head", "large_head", "slow_body", "stalled", "malformed"]
Phase = Literal["head", "body", "answer"]


def limited(limits: ConnectionLimits, table: ConnectionTable, closed: Callable[[Closed], None]) -> dict[str, Any]:
    """Return the arguments of `uvicorn.Config` for a server with these limits; see `LimitedProtocol`.

    WebSockets, which nothing here serves, would leave the protocol and its limits.
    """
    protocol = partial(LimitedProtocol, limits, table, closed)
    return {"http": protocol, "ws": "none", "timeout_keep_alive": limits.keep_alive_s}


class LimitedProtocol(HttpToolsProtocol):
    """One connection of a server.

    A request that comes in one piece, as most do, starts no timer.

    Args:
        limits: what a peer may hold, in bytes and seconds.
        table: the server's connections.
        closed: called with the reason when a connection is closed or refused here.
    """

    def __init__(
        self, limits: ConnectionLimits, table: ConnectionTable, closed: Callable[[Closed], None], **uvicorns: Any
    ) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._table = table
        self._closed = closed
        self._phase: Phase = "head"
        self._head_bytes = 0
        self._ended_body = 0  # bytes of a body in the piece that is read, before the next request's head
        self._timed: Phase | None = None  # the phase that `_timer` is for
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        reason = self._table.admit(self, peer)
        if reason is None:
            self._arm()
        else:
            message = "All connections of this server are taken." if reason == "full" else "Too many connections."
            self._end(reason, HTTPStatus.SERVICE_UNAVAILABLE, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        idle = self._phase == "answer" and self._answered
        self._ended_body = 0
        super().data_received(data)
        if self.transport.is_closing():
            return
        if idle and self._phase == "answer":  # bytes that begin no request
            self._phase, self._head_bytes = "head", 0
        if self._phase == "head":
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_head_bytes:
                message = f"The head of the request is over {self._limits.max_head_bytes} bytes."
                self._end("large_head", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
                return
        self._arm()

    def on_message_begin(self) -> None:
        self._phase, self._head_bytes = "head", -self._ended_body
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._disarm()
        self._phase = "body"
        self._table.works(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._ended_body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = "answer"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reader()  # what is written has still to be read
        elif self._answered:
            self._table.waits(self)
        self._arm()

    def send_400_response(self, msg: str) -> None:
        self._end("malformed", HTTPStatus.BAD_REQUEST, msg)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None and not self.transport.is_closing():
            self._stalled.cancel()
            self._stalled = None

    def evict(self) -> None:
        self._closed("evicted")
        self.transport.abort()

    @property
    def _answered(self) -> bool:
        """Whether no request is being answered, or waits behind one that is."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def _arm(self) -> None:
        """Time the phase that the connection is in, from its beginning."""
        if self._timed == self._phase:
            return
        self._disarm()
        self._timed = self._phase
        if self._phase != "answer":
            seconds = self._limits.head_timeout_s if self._phase == "head" else self._limits.body_timeout_s
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        self._timed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._disarm()
        if self.transport.is_closing():
            return
        if self._phase == "body" and self._answered:  # of a request that was refused before its body had come
            self._closed("slow_body")
            self.transport.close()
            self._expect_reader()
        elif self._phase == "body" and not self.pipeline and not self.cycle.response_started:
            self._end("slow_body", HTTPStatus.REQUEST_TIMEOUT, "The body of the request came too slowly.")
        elif self._phase == "head" and self._answered:
            self._end("slow_head", HTTPStatus.REQUEST_TIMEOUT, "The head of the request came too slowly.")
        else:
            self._arm()  # a request before this one is still being answered

    def _expect_reader(self) -> None:
        """Give the peer a time to read what is written."""
        if self._stalled is None and self.transport.get_write_buffer_size():
            self._stalled = self.loop.call_later(self._limits.stalled_timeout_s, self._stall)

    def _stall(self) -> None:
        self._closed("stalled")
        self.transport.abort()

    def _end(self, reason: Closed, status: HTTPStatus, message: str) -> None:
        """Answer with an error in OpenAI's shape, and close."""
        self._closed(reason)
        detail = ErrorDetail(message=message, type="invalid_request_error", param=None, code=reason)
        body = ErrorAnswer(error=detail).to_json()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._expect_reader()
