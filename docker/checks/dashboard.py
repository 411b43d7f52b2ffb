"""Write the Grafana dashboard from `docker.checks.panels`: `python -m docker.checks.dashboard`."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

from docker.checks.panel import Panel
from docker.checks.panels import ROWS
from docker.checks.promql import Query

with warnings.catch_warnings():  # the SDK prefers the next schema, but every Grafana 12 reads this one
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import common as options
    from grafana_foundation_sdk.models import dashboard as model

FILE = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "decant.json"
SOURCE = options.DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH, HEIGHT = 24, 8  # of the whole dashboard, and of a panel, in Grafana's units
UP = [model.Threshold(value=None, color="red"), model.Threshold(value=1, color="green")]


def dashboard_text() -> str:
    """Return the content of the dashboard's file."""
    return _text(build_dashboard())


def reparsed(text: str) -> str:
    """Read the content of a dashboard's file into the schema's types, and return it written again."""
    register_default_plugins()
    return _text(model.Dashboard.from_json(json.loads(text)))


def build_dashboard() -> model.Dashboard:
    """Return the dashboard with a place for each panel."""
    board = (
        dashboard.Dashboard("Decant")
        .uid("decant")
        .description("Decant: what each strategy costs, and what it gains.")
        .tags(["decant"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(_strategy())
    )
    top = number = 0  # set every place: the builder takes a panel at (0, 0) for one that has no place
    for row in ROWS:
        number += 1
        board.with_row(dashboard.Row(row.title).id(number).grid_pos(model.GridPos(h=1, w=WIDTH, x=0, y=top)))
        top += 1
        for index, panel in enumerate(row.panels):
            number += 1
            down, across = divmod(index, row.columns)
            width = WIDTH // row.columns
            place = model.GridPos(h=HEIGHT, w=width, x=across * width, y=top + down * HEIGHT)
            board.with_panel(_panel(panel).id(number).grid_pos(place))
        top += math.ceil(len(row.panels) / row.columns) * HEIGHT
    return board.build()


def _strategy() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("strategy")
        .label("Strategy")
        .datasource(SOURCE)
        .query("label_values(decant_request_duration_seconds_count, strategy)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    made = _graph() if panel.states is None else _states(*panel.states)
    made.title(panel.title).description(panel.description).datasource(SOURCE).unit(panel.unit or "short")
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        made.with_target(_target(letter, query))
    return made


def _graph() -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(options.LegendDisplayMode.TABLE)
        .placement(options.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull"])
    )
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    return timeseries.Panel().legend(legend).tooltip(tooltip).fill_opacity(0).line_width(1)


def _states(down: str, up: str) -> stat.Panel:
    texts = {"0": down, "1": up}
    mapping = model.ValueMap(options={k: model.ValueMappingResult(text=v) for k, v in texts.items()})
    thresholds = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(UP)
    return stat.Panel().mappings([mapping]).thresholds(thresholds)


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).expr(query.promql).legend_format(query.legend).range()


def _text(board: model.Dashboard) -> str:
    content: dict[str, Any] = json.loads(JSONEncoder().encode(board))
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(dashboard_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
