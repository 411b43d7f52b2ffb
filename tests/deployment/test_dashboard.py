"""The dashboard and the alerts query metrics that exist, and every metric of the README is on the dashboard."""

import json
import re
import shutil
from pathlib import Path

import pytest

from decoders.testing import ToyGuide, ToyPolicy
from docker.checks import dashboard
from docker.checks.panels import ROWS
from docker.checks.prometheus import CHECKS, CONFIG, promtool, rules
from tests.http.test_auth import add
from tests.support.fakes import FakeEngine, world
from tests.support.serving import refused, serving

README = Path(__file__).parents[2] / "README.md"
# Metrics of vLLM 0.32, which the toy does not have.
VLLM = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:num_preemptions_total",
}
PROMETHEUS = {"up"}  # Prometheus's own metric of each target
# A metric in PromQL or in the README, but not the end of a longer name such as a recording rule's.
METRIC = re.compile(r"(?<![\w:])(?:decant|vllm:)\w+|(?<![\w:])up(?={)")
QUERIES = [query.promql for row in ROWS for panel in row.panels for query in panel.queries]


def names(*texts: str) -> set[str]:
    return {name for text in texts for name in METRIC.findall(text)}


def without_suffix(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names on /metrics after several kinds of request."""
    policy = ToyPolicy(loaded={"plain": ToyGuide()})
    file = tmp_path_factory.mktemp("keys") / "keys"
    ann = add(file, "ann")
    with serving(world(policy, engines={"policy": FakeEngine()}), api_keys_file=file) as api:
        api.http.headers["Authorization"] = f"Bearer {ann}"
        api.complete()
        api.complete(decoding={"strategy": "best_of_n", "n": 4})
        api.complete(decoding={"strategy": "reward_guided", "guides": {"plain": 1.0}})
        refused(api.post("completions", {"prompt": 5}), 400)
        api.rest()
        return {sample.name for sample in api.metrics()}


def test_the_file_is_what_the_code_makes() -> None:
    text = dashboard.FILE.read_text(encoding="utf-8")
    assert text == dashboard.dashboard_text()
    assert dashboard.reparsed(text) == text, "every field is in Grafana's schema"


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(dashboard.dashboard_text())["panels"]
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_each_name_is_on_the_page(page: set[str]) -> None:
    asked = names(*QUERIES, *(rule.expr for rule in rules()))
    assert asked >= {"up", "vllm:num_requests_running", "decant_reward_bucket"}, "names are found in queries"
    assert asked - page - VLLM - PROMETHEUS == set()


def test_each_recording_that_an_alert_uses_is_made() -> None:
    made = {rule.name for rule in rules() if not rule.alerts}
    used = {name for rule in rules() if rule.alerts for name in re.findall(r"\b\w+:\w+:\w+", rule.expr)}
    assert used == made, "every recording is used"


def test_each_query_is_of_this_job() -> None:
    for expr in [*QUERIES, *(rule.expr for rule in rules())]:
        selectors = re.findall(r"(?<![\w:])(?:decant_\w+|vllm:\w+|up)(?:{([^}]*)})?", expr)
        assert all(selector.startswith('job="decant"') for selector in selectors), expr
    assert "job_name: decant" in CONFIG.read_text(encoding="utf-8")


def test_every_metric_of_the_readme_is_on_the_dashboard() -> None:
    section = README.read_text(encoding="utf-8").split("\n## Metrics\n")[1].split("\n## ")[0]
    promised = {without_suffix(name) for name in names(section) if name.startswith("decant_")}
    assert len(promised) >= 14
    assert promised - {without_suffix(name) for name in names(*QUERIES)} == set()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
@pytest.mark.parametrize("arguments", CHECKS, ids=lambda check: f"{check[0]}_{check[1]}")
def test_promtool_accepts_the_files(arguments: tuple[str, str, Path]) -> None:
    accepted, output = promtool(*arguments)
    assert accepted, output
