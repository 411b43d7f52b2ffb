"""Check every query of the dashboard and of the alerts on a real server and a real Prometheus.

    python -m docker.checks.monitoring [--picture docs/dashboard.png] [--seconds 150]

First promtool checks the files and runs the rules' tests, and the dashboard's file is compared with its schema and its
source. Then the demo's models serve a mixed load, Prometheus scrapes them with the deployment's own configuration, and
the series of each query are counted. A query without any is printed, and the exit status is 1.
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

from docker.checks import dashboard
from docker.checks.key_panels import KEYS
from docker.checks.panels import ROWS
from docker.checks.picture import draw_picture
from docker.checks.prometheus import CHECKS, SCRAPE, PrometheusApi, promtool, rules, scraping
from docker.checks.tools import need
from docker.checks.traffic import traffic
from evaluation.support.servers import decant
from server.demo.defaults import settings

VARIABLES = {"$strategy": ".*", "$__rate_interval": "30s"}
LIMITS = {"max_sequences": 8, "max_queue": 4}  # small, so that a burst fills the queue
COMPARISON = re.compile(r" (>=|<=|==|!=|>|<) ")
console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--picture", type=Path, help="draw the dashboard into this PNG")
    parser.add_argument("--seconds", type=float, default=150, help="how long the load lasts")
    arguments = parser.parse_args()
    need(("prometheus", "promtool"), "prometheus")
    faults = [*_files(), *_live(arguments.seconds, arguments.picture)]
    for fault in faults:
        console.print(f"[red]{fault}[/]", highlight=False)
    console.print("[red]the faults are above[/]" if faults else "[green]every query has data[/]")
    sys.exit(bool(faults))


def filled(promql: str) -> str:
    """Return a dashboard's query with a value for each variable."""
    for variable, value in VARIABLES.items():
        promql = promql.replace(variable, value)
    return promql


def relaxed(expr: str) -> str:
    """Return an alert's expression with comparisons that give 0 or 1 instead of filtering.

    It has data wherever its inputs have data.
    """
    return COMPARISON.sub(r" \1 bool ", expr)


def _files() -> Iterator[str]:
    """Yield the faults of the files themselves."""
    for arguments in CHECKS:
        accepted, output = promtool(*arguments)
        console.print(f"promtool {arguments[0]} {arguments[1]} {arguments[2].name}: {'ok' if accepted else 'FAILED'}")
        if not accepted:
            yield output
    text = dashboard.FILE.read_text(encoding="utf-8")
    if dashboard.reparsed(text) != text:
        yield f"{dashboard.FILE.name} has a field that Grafana's schema does not know"
    if dashboard.dashboard_text() != text:
        yield f"{dashboard.FILE.name} differs from what the code makes: run python -m docker.checks.dashboard"
    console.print(f"{dashboard.FILE.name}: read back through Grafana's schema")


def _live(seconds: float, picture: Path | None) -> Iterator[str]:
    """Yield the queries that have no data on a real server, and Prometheus's own faults."""
    with tempfile.TemporaryDirectory() as folder:
        console.print("starting the demo's models: a minute or two on two cores")
        with decant(_settings(Path(folder))) as url, scraping(url) as api:
            start = time.time()
            _load(url, seconds)
            time.sleep(2 * SCRAPE)  # so that the last counts are scraped and the rules evaluated on them
            end = time.time()
            yield from api.faults()
            yield from _queries(api, start, end)
            firing = api.range('ALERTS{alertstate="firing"}', start, end)
            names = sorted({series.labels["alertname"] for series in firing})
            console.print(f"alerts that fired meanwhile: {', '.join(names) or 'none'}")
            if picture is not None:
                draw_picture(lambda promql: api.range(filled(promql), start, end), picture)
                console.print(f"drawn: {picture}")


def _settings(folder: Path) -> dict[str, Any]:
    """Return the demo's settings with small limits and an empty calibration store."""
    return {**settings(), "calibration": {"store": str(folder / "calibration.sqlite")}, "server": LIMITS}


def _load(url: str, seconds: float) -> None:
    """Put the server at `url` under load, and print how it answered."""
    with Progress(console=console) as progress:
        task = progress.add_task("a mixed load", total=seconds)
        statuses = asyncio.run(traffic(url, seconds, lambda passed: progress.update(task, completed=passed)))
    words = [f"{count} x {status or 'left'}" for status, count in sorted(statuses.items())]
    console.print(f"answers by status: {', '.join(words)}")


def _queries(api: PrometheusApi, start: float, end: float) -> Iterator[str]:
    """Print each query's number of series from `start` to `end` (seconds since the epoch); yield those with none."""
    table = Table("of", Column("query", overflow="fold"), "series", title="Series with data")

    def count(of: str, name: str, promql: str) -> Iterator[str]:
        series = len(api.range(promql, start, end))
        table.add_row(of, name, str(series) if series else "[red]none[/]")
        if not series:
            yield f"no data: {of}, {name}: {promql}"

    for row in ROWS:
        if row is KEYS:  # this server has none
            continue
        for panel in row.panels:
            for query in panel.queries:
                yield from count(f"{row.title}: {panel.title}", query.legend, filled(query.promql))
    for rule in rules():
        if rule.alerts and "absent(" in rule.expr:
            table.add_row("alert", rule.name, "excepted")
        else:
            yield from count("alert" if rule.alerts else "rule", rule.name, relaxed(rule.expr))
    console.print(table)
    console.print("excepted: absent() has data only if its metric has none")


if __name__ == "__main__":
    main()
