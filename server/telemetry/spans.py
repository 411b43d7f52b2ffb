"""Spans of OpenTelemetry, by the API alone: where no provider was set up, none is recorded."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from decoders.events import Done
from server.telemetry.request_info import RequestInfo

TRACER = trace.get_tracer("decant")


def tracing() -> bool:
    """Return whether spans go anywhere."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def trace_headers() -> dict[str, str]:
    """Return the headers by which another server, or an engine, makes its spans below the current one."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


@contextmanager
def current_span(name: str, attributes: Mapping[str, Any], kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """Make a span the parent of those inside the block. A failure is its type: its message may quote a text."""
    with TRACER.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            failed(span, type(error).__name__)
            raise


@contextmanager
def server_span(method: str, path: str, known: bool, headers: Mapping[str, str], info: RequestInfo) -> Iterator[Span]:
    """Make the span of a request, below the client's where its headers have a `traceparent`.

    Args:
        known: Whether the path is one of the server's own: others would make endlessly many names.
    """
    name = f"{method} {path}" if known else method
    attributes = {"http.request.method": method, "url.path": path, "decant.request_id": info.id}
    with TRACER.start_as_current_span(
        name, context=propagate.extract(headers), kind=SpanKind.SERVER, attributes=attributes, record_exception=False
    ) as span:
        yield span


def answered(span: Span, status: int | None, info: RequestInfo) -> None:
    """Say on the span of a request how it was answered, in the conventions for HTTP and for generative AI."""
    texts = {
        "gen_ai.operation.name": info.operation,
        "gen_ai.provider.name": "decant" if info.operation else "",
        "gen_ai.request.model": info.model,
        "gen_ai.response.id": info.answer,
        "decant.strategy": info.strategy,
        "decant.key": info.client,
    }
    span.set_attributes({name: value for name, value in texts.items() if value})
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    if info.finish_reasons:
        span.set_attributes(
            {
                "gen_ai.usage.input_tokens": info.input_tokens,
                "gen_ai.usage.output_tokens": info.output_tokens,
                "gen_ai.response.finish_reasons": info.finish_reasons,
            }
        )
    if info.candidates or info.scored_tokens:
        span.set_attributes(
            {
                "decant.candidates": info.candidates,
                "decant.generated_tokens": info.generated_tokens,
                "decant.scored_tokens": info.scored_tokens,
            }
        )
    if info.error:
        span.set_attribute("error.type", info.error)
    if status is not None and (status >= 500 or (status == 200 and info.error)):
        span.set_status(Status(StatusCode.ERROR))  # a mistake of the client's is none of the server's


def failed(span: Span, kind: str) -> None:
    """Mark a span as failed by an error of this type."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def record(name: str, seconds: float, attributes: Mapping[str, Any] | None = None) -> None:
    """Make a span of work that has just ended, and that took `seconds`."""
    if trace.get_current_span().is_recording():
        end = time.time_ns()
        TRACER.start_span(name, start_time=end - int(seconds * 1e9), attributes=attributes).end(end)


def record_choice(done: Done) -> None:
    """Make the span of a run's choice among its candidates, which ended just before the run."""
    if "select" in done.cost.seconds:
        attributes = {"decant.candidates": len(done.candidates), "decant.chosen": list(done.chosen)}
        record("select", done.cost.seconds["select"], attributes)


@asynccontextmanager
async def http_call(method: str, url: str, attempt: int) -> AsyncIterator[tuple[Span, dict[str, str]]]:
    """Make the span of a call to another server; give it with the headers by which that server continues the trace."""
    address = urlsplit(url)
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "server.address": address.hostname or "",
        "server.port": address.port or (443 if address.scheme == "https" else 80),
        "url.full": address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl(),
    }
    if attempt:
        attributes["http.request.resend_count"] = attempt
    with current_span(method, attributes, SpanKind.CLIENT) as span:
        yield span, trace_headers()


def call_answered(span: Span, status: int) -> None:
    """Say on the span of a call what the other server answered."""
    span.set_attribute("http.response.status_code", status)
    if status >= 400:
        failed(span, str(status))
