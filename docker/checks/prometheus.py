"""A real Prometheus on this machine: promtool's checks of our files, and queries over HTTP."""

import math
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from evaluation.support.servers import free_port, is_up, process, wait

FOLDER = Path(__file__).parents[2] / "docker" / "prometheus"
CONFIG, RULES, TESTS = (FOLDER / f"{name}.yml" for name in ("prometheus", "decant.rules", "decant.rules.test"))
SCRAPE = 2  # seconds between scrapes instead of the deployment's 15, so that a few minutes have enough of them
CHECKS = (("check", "config", CONFIG), ("check", "rules", RULES), ("test", "rules", TESTS))


@dataclass(frozen=True)
class Rule:
    """A recording rule, or an alert; `alerts` says which."""

    name: str
    expr: str
    alerts: bool


@dataclass(frozen=True)
class Series:
    """One series of a query's result."""

    labels: dict[str, str]
    points: list[tuple[float, float]]  # seconds since the epoch, and finite values


def rules() -> list[Rule]:
    """Return the deployment's rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    return [Rule(rule.get("alert") or rule["record"], rule["expr"].strip(), "alert" in rule) for rule in found]


def promtool(*arguments: str | Path) -> tuple[bool, str]:
    """Run promtool; return whether it succeeded, and what it printed."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


class PrometheusApi:
    """Prometheus's HTTP API."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=60)

    def close(self) -> None:
        self._client.close()

    def range(self, promql: str, start: float, end: float) -> list[Series]:
        """Return the series of a query, without the points that are not finite and without empty series.

        Args:
            promql: the query.
            start: seconds since the epoch.
            end: seconds since the epoch.

        Raises:
            SystemExit: Prometheus refused the query.
        """
        data = self._get("query_range", query=promql, start=start, end=end, step=SCRAPE)
        found = []
        for series in data["result"]:
            numbers = [(float(at), float(value)) for at, value in series["values"]]
            points = [(at, value) for at, value in numbers if math.isfinite(value)]
            if points:
                found.append(Series(series["metric"], points))
        return found

    def faults(self) -> list[str]:
        """Return Prometheus's own messages about targets and rules that fail."""
        targets = self._get("targets")["activeTargets"]
        scraped = [f"{t['scrapePool']}: {t['lastError']}" for t in targets if t["health"] != "up"]
        ruled = [r for group in self._get("rules")["groups"] for r in group["rules"] if r["health"] != "ok"]
        return scraped + [f"{r['name']}: {r.get('lastError') or r['health']}" for r in ruled]

    def _get(self, path: str, **params: Any) -> Any:
        body = self._client.get(f"/{path}", params=params).json()
        if body["status"] != "success":
            raise SystemExit(f"Prometheus: {body.get('error')}: {params.get('query')}")
        return body["data"]


@contextmanager
def scraping(decant: str) -> Iterator[PrometheusApi]:
    """Run Prometheus on the server at the address `decant` while the block runs.

    Its configuration is the deployment's, with other addresses and shorter intervals.
    """
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}"
        config, log = Path(folder, "prometheus.yml"), Path(folder, "log")
        targets = {"decant": decant.removeprefix("http://"), "prometheus": address}
        config.write_text(yaml.safe_dump(_local_config(targets)), encoding="utf-8")
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={Path(folder, 'data')}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
        with process(command, log) as child:
            wait(child, log, lambda: is_up(f"http://{address}/-/ready"))
            api = PrometheusApi(f"http://{address}")
            try:
                yield api
            finally:
                api.close()


def _local_config(targets: dict[str, str]) -> dict[str, Any]:
    """Return the deployment's configuration with this machine's paths and `targets` (address by job)."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"}
    config["rule_files"] = [str(FOLDER / file) for file in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["scrape_interval"] = f"{SCRAPE}s"
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    return config
