"""A panel of the dashboard and a row of panels, as plain data."""

from dataclasses import dataclass

from docker.checks.promql import Query


@dataclass(frozen=True)
class Panel:
    """A graph of some queries, or the words of a state.

    `unit` is Grafana's name of the unit, empty for a plain number. `states` are the words for 0 and 1; a panel that has
    them shows a word instead of a graph.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    states: tuple[str, str] | None = None


@dataclass(frozen=True)
class PanelRow:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]

    @property
    def columns(self) -> int:
        """Panels side by side: 3, or 4 where 3 would leave one panel alone on a line."""
        return 4 if len(self.panels) == 4 else 3
