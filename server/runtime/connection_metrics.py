"""Metrics of a server's connections."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

REASONS = ("full", "per_peer", "evicted", "slow_head", "large_head", "slow_body", "stalled", "malformed")


class ConnectionMetrics:
    """How many connections are open, and how many were refused or closed, by reason.

    Args:
        open_now: gives how many are open.
    """

    def __init__(self, registry: CollectorRegistry, open_now: Callable[[], int]) -> None:
        Gauge("decant_connections", "Connections that are open", registry=registry).set_function(open_now)
        self._closed = Counter(
            "decant_connections_closed", "Connections refused or closed by a limit", ("reason",), registry=registry
        )
        for reason in REASONS:
            self._closed.labels(reason)

    def closed(self, reason: str) -> None:
        """Count a connection that a limit closed or refused; `reason` is one of `REASONS`."""
        self._closed.labels(reason).inc()
