"""Decant's metrics on vLLM's page."""

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector


class _Shown(Collector):
    """The metrics of another registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


def shown_on_page(registry: CollectorRegistry) -> None:
    """Add a registry to the process's, which vLLM's page shows.

    With several API servers that page adds up files of all processes instead, which every registry writes.
    """
    REGISTRY.register(_Shown(registry))
