"""Sending spans to a collector, as the standard variables `OTEL_...` of the environment say."""

import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opentelemetry import trace

from server.installed import VERSION
from server.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP, GRPC = "http/protobuf", "grpc"
FLUSH = 5.0  # seconds that the last spans may take when the server ends


def start_tracing(environment: Mapping[str, str]) -> Callable[[], None]:
    """Send spans to the collector that the environment names, if it does; return what sends the last ones.

    Raises `SettingsError` for a variable that cannot be honoured, and where the exporter is not installed.
    """
    if not _wanted(environment):
        return lambda: None
    if find_spec("opentelemetry.sdk") is None:
        raise SettingsError(f"{_set(environment, ENDPOINTS)}: install OpenTelemetry's SDK: decant-server[otel]")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.version": VERSION})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # no variable has a name
        resource = resource.merge(Resource({"service.name": "decant"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(environment)))
    trace.set_tracer_provider(provider)

    def end() -> None:
        last = threading.Thread(target=provider.shutdown, daemon=True)  # a collector that is away must not hold us
        last.start()
        last.join(FLUSH)

    return end


def engine_endpoint(environment: Mapping[str, str]) -> str:
    """Return where an engine sends its spans, and set how, for its process too. Tracing must have been started."""
    own, general = (environment.get(name, "") for name in ENDPOINTS)
    variable = _set(environment, PROTOCOLS)
    protocol = HTTP if variable is None else environment[variable]
    os.environ[PROTOCOLS[0]] = protocol  # vLLM reads this one alone, and takes gRPC without it
    return own or (f"{general.rstrip('/')}/v1/traces" if protocol == HTTP else general)


def _wanted(environment: Mapping[str, str]) -> bool:
    """Return whether there is a collector. Raises `SettingsError` for another exporter."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter not in ("otlp", "none"):
        raise SettingsError(f"OTEL_TRACES_EXPORTER is {exporter}, and spans are sent by otlp, or not at all: none")
    return exporter == "otlp" and _set(environment, ENDPOINTS) is not None


def _exporter(environment: Mapping[str, str]) -> "SpanExporter":
    variable = _set(environment, PROTOCOLS)
    protocol = HTTP if variable is None else environment[variable]
    if protocol not in (HTTP, GRPC):
        raise SettingsError(f"{variable} is {protocol}, and spans are sent by {HTTP} or {GRPC}")
    kind = "http" if protocol == HTTP else "grpc"
    if find_spec(f"opentelemetry.exporter.otlp.proto.{kind}") is None:
        raise SettingsError(f"{variable or ENDPOINTS[1]}: install opentelemetry-exporter-otlp-proto-{kind}")
    if protocol == HTTP:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter()


def _set(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the first of the variables that is set to something."""
    return next((name for name in names if environment.get(name)), None)
