"""The gist of a report as HTTP headers, for clients whose libraries drop the field `decoding`."""

from collections.abc import Iterator, Mapping, Sequence

from server.http.schemas.reports import DecodingReport, ResultBase

MAX_CHOICES = 32  # with more, what differs between choices would make headers that proxies refuse


def report_headers(report: DecodingReport) -> dict[str, str]:
    """Return the headers. Those of the choices have a value for each, in their order, and are absent if unknown."""
    headers = {
        "x-decant-strategy": report.strategy,
        "x-decant-candidates": str(report.cost.candidates),
        "x-decant-generated-tokens": str(report.cost.generated_tokens),
    }
    if len(report.results) <= MAX_CHOICES:
        headers |= {name: ", ".join(values) for name, values in _of_choices(report.results) if any(values)}
    return headers


def comment(headers: Mapping[str, str]) -> bytes:
    """Return the same as a comment of a stream of server-sent events."""
    return b": " + "; ".join(f"{name}: {value}" for name, value in headers.items()).encode() + b"\n\n"


def _of_choices(results: Sequence[ResultBase]) -> Iterator[tuple[str, list[str]]]:
    yield "x-decant-reward", [_rewards(result.rewards) for result in results]
    yield "x-decant-kl", [_kl(result) for result in results]


def _rewards(rewards: Mapping[str, float | None]) -> str:
    """Return one reward as a number, and several as name=number."""
    if len(rewards) == 1:
        return _number(*rewards.values())
    return " ".join(f"{name}={_number(value)}" for name, value in rewards.items())


def _kl(result: ResultBase) -> str:
    kl = getattr(result, "kl", None)
    return "" if kl is None else _number(kl.nats)


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"
