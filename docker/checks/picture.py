"""The dashboard as one picture, for readers without a Grafana: the same rows, panels and queries."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from docker.checks.panel import Panel, PanelRow
from docker.checks.panels import ROWS
from docker.checks.prometheus import Series

FetchSeries = Callable[[str], list[Series]]

DPI = 100
WIDTH = 16.0  # inches, as the lengths below
HEADING, LINE, TOP = 0.3, 2.6, 0.75
COLOURS = ("#3274d9", "#e0752d", "#299c46", "#c4162a", "#8f3bb8", "#0aa3a3", "#b8860b", "#d44a9c", "#666666", "#111111")
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 2), (1, 1.5), (6, 1.5, 1, 1.5), (2, 2), (8, 2))
UNITS = {"reqps": "req/s", "s": "s", "cps": "tokens/s", "ops": "per s", "percentunit": "share", "": ""}
_LABEL = re.compile(r"{{(\w+)}}")


def draw_picture(fetch: FetchSeries, file: Path) -> None:
    """Draw the results of every query into `file`.

    Args:
        fetch: returns the series of a query.
        file: a PNG.
    """
    data = {query.promql: fetch(query.promql) for row in ROWS for panel in row.panels for query in panel.queries}
    points = [at for found in data.values() for series in found for at, _ in series.points]
    start = min(points, default=0.0)
    strategies = sorted({s.labels["strategy"] for found in data.values() for s in found if "strategy" in s.labels})
    colours = dict(zip(strategies, COLOURS, strict=False))

    heights = [HEADING + LINE * math.ceil(len(row.panels) / row.columns) for row in ROWS]
    figure = pyplot.figure(figsize=(WIDTH, TOP + sum(heights)), dpi=DPI, facecolor="white")
    top, *parts = np.asarray(figure.subfigures(1 + len(ROWS), 1, height_ratios=[TOP, *heights])).flat
    _head(top, colours)
    for part, row in zip(parts, ROWS, strict=True):
        _row(part, row, data, colours, start)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)
    pyplot.close(figure)
    with Image.open(file) as picture:  # 256 colours are enough here, and a third of the size
        picture.convert("RGB").quantize(256).save(file, optimize=True)


def _head(part: SubFigure, colours: dict[str, str]) -> None:
    part.text(0.012, 0.72, "Decant", fontsize=16, weight="bold", va="center")
    part.text(
        0.075,
        0.72,
        "a colour is a strategy, unless the panel has its own legend; x: seconds",
        fontsize=9,
        va="center",
    )
    lines = [Line2D([], [], color=colour, lw=3, label=name) for name, colour in colours.items()]
    part.legend(
        handles=lines, loc="center left", bbox_to_anchor=(0.006, 0.24), ncol=len(lines), fontsize=9, frameon=False
    )


def _row(part: SubFigure, row: PanelRow, data: dict[str, list[Series]], colours: dict[str, str], start: float) -> None:
    lines = math.ceil(len(row.panels) / row.columns)
    height = HEADING + LINE * lines
    part.add_artist(Line2D([0.012, 0.988], [1 - 0.02 / height] * 2, color="#bbbbbb", lw=0.8))
    part.text(0.012, 1 - 0.17 / height, row.title, fontsize=12, weight="bold", va="center")
    axes = part.subplots(lines, row.columns, squeeze=False)
    # The same space above each panel for its title and below it for its numbers, for any number of lines.
    part.subplots_adjust(
        left=0.035, right=0.988, top=1 - 0.62 / height, bottom=0.3 / height, wspace=0.16, hspace=0.62 / (LINE - 0.62)
    )
    for axis, panel in zip(axes.flat, row.panels, strict=True):
        _panel(axis, panel, data, colours, start)


def _panel(axis: Axes, panel: Panel, data: dict[str, list[Series]], colours: dict[str, str], start: float) -> None:
    unit = f"  ({UNITS[panel.unit]})" if UNITS[panel.unit] else ""
    axis.set_title(panel.title + unit, fontsize=9.5, loc="left", pad=5)
    if panel.states is not None:
        _words(axis, panel.states, [series for query in panel.queries for series in data[query.promql]])
        return
    legend: dict[str, Line2D] = {}
    kinds: list[str] = []  # legends without the strategy: each gets its own dashes, or colour
    for query in panel.queries:
        for series in sorted(data[query.promql], key=lambda s: sorted(s.labels.items())):
            strategy = series.labels.get("strategy")
            kind = _kind(query.legend, series.labels)
            if kind not in kinds:
                kinds.append(kind)
            number = kinds.index(kind)
            colour = COLOURS[number % len(COLOURS)] if strategy is None else colours[strategy]
            dashes = () if strategy is None else DASHES[number % len(DASHES)]
            x = [at - start for at, _ in series.points]
            y = [value for _, value in series.points]
            axis.plot(x, y, color=colour, dashes=dashes, lw=1.3 if number == 0 else 1)
            if kind and any(y):  # a series of zeros needs no entry in the legend
                shade = colour if strategy is None else "#555555"
                legend.setdefault(kind, Line2D([], [], color=shade, dashes=dashes, lw=1.3, label=kind))
    axis.grid(color="#eeeeee", lw=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, length=2, colors="#555555")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    if panel.unit == "percentunit":
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    low, high = axis.get_ylim()
    if low < 0 < high and low == -high:  # every value is zero
        axis.set_ylim(0, 1)
    elif low > -0.1 * high:
        axis.set_ylim(bottom=0)
    if legend:
        # Extend the axis upwards, so that the legend is above the lines.
        columns = 3 if max(map(len, legend)) < 18 else 2
        deep = math.ceil(len(legend) / columns)
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + (high - low) * 0.12 * deep)
        axis.legend(
            handles=list(legend.values()),
            loc="upper left",
            ncol=columns,
            fontsize=7.5,
            frameon=False,
            borderaxespad=0,
            handlelength=2.4,
            columnspacing=1,
            labelspacing=0.25,
        )


def _kind(legend: str, labels: dict[str, str]) -> str:
    """Return the legend with the values of its labels, without the strategy, which the colour shows."""
    named = {**labels, "strategy": ""}
    return _LABEL.sub(lambda found: named.get(found[1], ""), legend).strip()


def _words(axis: Axes, states: tuple[str, str], found: list[Series]) -> None:
    axis.set_axis_off()
    for number, series in enumerate(found):
        up = series.points[-1][1] >= 1
        place = (number + 0.5) / len(found)
        colour = "#299c46" if up else "#c4162a"
        axis.text(
            place, 0.55, states[up], color=colour, fontsize=22, weight="bold", ha="center", transform=axis.transAxes
        )
        axis.text(place, 0.35, series.labels["engine"], fontsize=9, ha="center", transform=axis.transAxes)
