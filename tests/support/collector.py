"""A collector of traces: OpenTelemetry's protocol over HTTP, as protobuf, in a thread of this process."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """A span as it was sent."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    events: int
    resource: dict[str, Any]


@dataclass
class Collector:
    """What has arrived so far."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def of(self, request: str) -> list[Span]:
        """The spans of the trace that the request with this id has, the first one first."""
        [trace] = {span.trace for span in self.spans if span.attributes.get("decant.request_id") == request}
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.start)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            collector.spans += read(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read(body: bytes) -> list[Span]:
    """Return the spans of one message."""
    message = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            name=span.name,
            kind=Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            attributes={pair.key: value(pair.value) for pair in span.attributes},
            events=len(span.events),
            resource={pair.key: value(pair.value) for pair in group.resource.attributes},
        )
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def value(sent: AnyValue) -> Any:
    """Return the value of an attribute."""
    kind = sent.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in sent.array_value.values]
    return getattr(sent, kind) if kind else None
