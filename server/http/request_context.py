"""The outermost middleware: each request's id, its line in the access log, and its span."""

import logging
import time
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.telemetry import request_info
from server.telemetry.log_setup import ACCESS
from server.telemetry.request_info import HEADER, RequestInfo
from server.telemetry.spans import answered, server_span, tracing

SHOWN = 256  # bytes of a path
OPTIONAL = ("key", "model", "strategy", "answer", "error")  # in a line of text

PROBES = ("/health", "/healthz", "/ping", "/readyz", "/metrics")  # not traced

log = logging.getLogger(ACCESS)


class RequestContext:
    """Gives each request an id, sends it with every response, and logs the response when it has ended.

    It stands outside of starlette's own handlers of errors, so that no response is without the id. The context of the
    request stays set when the request has ended: the server may still log an error then, and has a task, and so a
    context, for each request.

    Args:
        paths: Those that are served: others name no span.
        answers: Send the id as a header; where another server around this one does, there would be two.
    """

    def __init__(self, app: ASGIApp, paths: Iterable[str] = (), *, answers: bool = True) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._tracing = tracing()
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        info = request_info.enter(Headers(scope=scope).get(HEADER))
        response = _Response(info, send, answers=self._answers)
        started = time.perf_counter()
        try:
            if self._tracing and scope["path"] not in PROBES:
                await self._traced(scope, receive, response, info)
            else:
                await self._app(scope, receive, response)
        finally:
            if log.isEnabledFor(logging.INFO):
                _log(scope, info, response, time.perf_counter() - started)

    async def _traced(self, scope: Scope, receive: Receive, response: "_Response", info: RequestInfo) -> None:
        method, path = scope["method"], scope["path"]
        with server_span(method, path, path in self._paths, Headers(scope=scope), info) as span:
            try:
                await self._app(scope, receive, response)
            finally:
                answered(span, response.status, info)


class _Response:
    """Passes a response on with the request's id, and remembers its status and its size."""

    def __init__(self, info: RequestInfo, send: Send, *, answers: bool) -> None:
        self.status: int | None = None
        self.bytes = 0
        self._info = info
        self._send = send
        self._answers = answers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._answers:
                headers = [*message.get("headers", ()), (HEADER.encode(), self._info.id.encode())]
                message = {**message, "headers": headers}
        else:
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def _log(scope: Scope, info: RequestInfo, response: _Response, seconds: float) -> None:
    """Write the line of one request. A client that left before its answer began has no status."""
    path = scope.get("raw_path") or scope["path"].encode()
    fields: dict[str, Any] = {
        "method": scope["method"],
        "path": path[:SHOWN].decode("ascii", "backslashreplace"),  # still quoted, so that it is one line
        "status": response.status,
        "seconds": round(seconds, 6),
        "bytes": response.bytes,
        "request_id": info.id,
        "key": info.client or None,
        "model": info.model or None,
        "strategy": info.strategy or None,
        "answer": info.answer or None,
        "error": info.error or None,
    }
    known = [f"{name}={value}" for name, value in fields.items() if name in OPTIONAL and value is not None]
    log.info(
        "%s %s %s %.3f s %d bytes%s",
        fields["method"],
        fields["path"],
        "-" if response.status is None else response.status,
        seconds,
        response.bytes,
        "".join(f" {one}" for one in known),
        extra=fields,
    )
