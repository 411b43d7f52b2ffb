"""Whether dashboard and alerts show what a server does: every query of theirs, on a real server and Prometheus.

    python -m evaluation.deployment.monitoring [--picture docs/dashboard.png] [--seconds 150]

promtool's checks and rule tests; the dashboard's file against its schema and its source; then the demo's models under
a mixed load, scraped by Prometheus with the deployment's own configuration, and each query's number of series. A query
that has none is printed, and the exit status is 1.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from evaluation.deployment import dashboard
from evaluation.deployment.panels import ROWS
from evaluation.deployment.picture import draw
from evaluation.deployment.prometheus import CHECKS, SCRAPE, Api, promtool, rules, scraping
from evaluation.deployment.tools import need
from evaluation.deployment.traffic import traffic
from evaluation.servers import decant
from server.demo.defaults import settings

VARIABLES = {"$strategy": ".*", "$__rate_interval": "30s"}
PLACES = {"max_sequences": 8, "max_queue": 4}  # few, so that a burst fills the queue
COMPARISON = re.compile(r" (>=|<=|==|!=|>|<) ")
console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--picture", type=Path, help="draw the dashboard into this PNG")
    parser.add_argument("--seconds", type=float, default=150, help="how long the load goes on")
    arguments = parser.parse_args()
    need(("prometheus", "promtool"), "prometheus")
    faults = [*_files(), *_live(arguments.seconds, arguments.picture)]
    for fault in faults:
        console.print(f"[red]{fault}[/]", highlight=False)
    console.print("[red]not all is well[/]" if faults else "[green]every query has data[/]")
    sys.exit(bool(faults))


def filled(promql: str) -> str:
    """A dashboard's query, with a value for each variable."""
    for variable, value in VARIABLES.items():
        promql = promql.replace(variable, value)
    return promql


def relaxed(expr: str) -> str:
    """An alert's expression that has data wherever its inputs have: comparisons say 0 or 1 instead of filtering."""
    return COMPARISON.sub(r" \1 bool ", expr)


def _files() -> Iterator[str]:
    """What is wrong with the files as they lie."""
    for arguments in CHECKS:
        content, said = promtool(*arguments)
        console.print(f"promtool {arguments[0]} {arguments[1]} {arguments[2].name}: {'ok' if content else 'FAILED'}")
        if not content:
            yield said
    text = dashboard.FILE.read_text(encoding="utf-8")
    if dashboard.parse(text) != text:
        yield f"{dashboard.FILE.name} says something that Grafana's schema does not know"
    if dashboard.generate() != text:
        yield f"{dashboard.FILE.name} is not what the code makes: python -m evaluation.deployment.dashboard"
    console.print(f"{dashboard.FILE.name}: read back through Grafana's schema")


def _live(seconds: float, picture: Path | None) -> Iterator[str]:
    """What has no data on a real server."""
    with tempfile.TemporaryDirectory() as folder:
        console.print("starting the demo's models: a minute or two on two cores")
        with decant(_settings(Path(folder))) as url, scraping(url) as api:
            start = time.time()
            _load(url, seconds)
            time.sleep(2 * SCRAPE)  # the last of it is scraped, and rules have seen it
            end = time.time()
            yield from api.faults()
            yield from _queries(api, start, end)
            firing = api.range('ALERTS{alertstate="firing"}', start, end)
            names = sorted({series.labels["alertname"] for series in firing})
            console.print(f"alerts that fired meanwhile: {', '.join(names) or 'none'}")
            if picture is not None:
                draw(lambda promql: api.range(filled(promql), start, end), picture)
                console.print(f"drawn: {picture}")


def _settings(folder: Path) -> dict[str, Any]:
    """The demo's, with few places, and samples for calibration that nobody else has drawn."""
    return {**settings(), "calibration": {"store": str(folder / "calibration.sqlite")}, "server": PLACES}


def _load(url: str, seconds: float) -> None:
    with Progress(console=console) as progress:
        task = progress.add_task("a mixed load", total=seconds)
        statuses = asyncio.run(traffic(url, seconds, lambda passed: progress.update(task, completed=passed)))
    words = [f"{count} x {status or 'left'}" for status, count in sorted(statuses.items())]
    console.print(f"answers by status: {', '.join(words)}")


def _queries(api: Api, start: float, end: float) -> Iterator[str]:
    table = Table("of", Column("query", overflow="fold"), "series", title="Series with data")

    def ask(of: str, name: str, promql: str) -> Iterator[str]:
        count = len(api.range(promql, start, end))
        table.add_row(of, name, str(count) if count else "[red]none[/]")
        if not count:
            yield f"no data: {of}, {name}: {promql}"

    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries:
                yield from ask(f"{row.title}: {panel.title}", query.legend, filled(query.promql))
    for rule in rules():
        if rule.alerts and "absent(" in rule.expr:
            table.add_row("alert", rule.name, "excepted")
        else:
            yield from ask("alert" if rule.alerts else "rule", rule.name, relaxed(rule.expr))
    console.print(table)
    console.print("excepted: absent() has data only where its metric has none")


if __name__ == "__main__":
    main()
