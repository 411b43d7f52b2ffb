"""/metrics: every promised name, counters of tokens and refusals, and engines."""

import math
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from decoders.testing import ToyReward
from server.loading import toy
from server.runtime.metrics import KINDS, OUTCOMES, REASONS
from tests.support.fakes import FakeEngine, HeldPolicy, giving, world
from tests.support.serving import Api, Json, meanwhile, ok, refused, serving, speaking, until

PROMISED = {
    "decant_request_duration_seconds": {"strategy", "outcome"},
    "decant_time_to_first_token_seconds": {"strategy"},
    "decant_phase_duration_seconds": {"strategy", "phase"},
    "decant_requests_in_flight": {"strategy"},
    "decant_requests_queued": set(),
    "decant_requests_queued_limit": set(),
    "decant_tokens_total": {"strategy", "kind"},
    "decant_candidates_total": {"strategy"},
    "decant_reward": {"strategy", "reward"},
    "decant_reward_gain": {"strategy", "reward"},
    "decant_kl_nats": {"strategy"},
    "decant_refused_total": {"reason"},
    "decant_engine_up": {"engine"},
}
BEST: Json = {"strategy": "best_of_n", "n": 8, "return_candidates": True}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def test_every_promised_name_is_on_the_page_after_a_request() -> None:
    with serving(world(rewards={"default": ToyReward()}, engines={"policy": FakeEngine()})) as api:
        api.complete(decoding=BEST)
        refused(api.post("completions", {}), 400)
        response = api.http.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        labels: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                for name in (family.name, sample.name):
                    labels.setdefault(name, set()).update(set(sample.labels) - {"le"})
        assert {name: labels.get(name) for name in PROMISED} == PROMISED
        assert "process_resident_memory_bytes" in labels, "the process's own metrics, and so vLLM's, are there too"


def test_tokens_and_candidates_are_those_of_the_answers(api: Api) -> None:
    plain = [api.complete(["good", "bad odd"], n=3) for _ in range(2)]
    best = [api.complete("good bad", n=2, decoding=BEST) for _ in range(2)]
    kinds = ("prompt", "generated", "returned", "scored")

    def tokens(strategy: str) -> list[float]:
        return [api.metric("decant_tokens_total", strategy=strategy, kind=kind) for kind in kinds]

    drawn = sum(body["usage"]["completion_tokens"] for body in plain)
    assert tokens("sample") == [6, drawn, drawn, 0]
    costs = [body["decoding"]["cost"] for body in best]
    assert tokens("best_of_n") == [4, *(sum(c[f"{kind}_tokens"] for c in costs) for kind in kinds[1:])]
    assert api.metric("decant_candidates_total", strategy="sample") == 12
    assert api.metric("decant_candidates_total", strategy="best_of_n") == 16


def test_what_is_refused_is_counted_by_reason(api: Api) -> None:
    wrong: list[Json] = [
        {},
        {"prompt": 5},
        {"prompt": "good", "zip": 1},
        {"prompt": "odd " * 99},
        {"prompt": "good", "top_p": 0.5},
        {"prompt": "good", "decoding": {"strategy": "best_of_n", "reward": "zip"}},
    ]
    for body in wrong:
        refused(api.post("completions", body), 400)
    refused(api.post("rewards", {"prompt": "good", "completions": ["bad"], "reward": "zip"}), 400)
    refused(api.post("completions", b"{"), 400)
    assert api.metric("decant_refused_total", reason="invalid") == len(wrong) + 2
    refused(api.post("completions", {"prompt": "good", "model": "gpt"}), 404)
    assert api.metric("decant_refused_total", reason="unknown_model") == 1
    assert api.metric("decant_refused_total") == len(wrong) + 3
    assert api.count("request_duration_seconds") == 0


def test_what_is_to_be_counted_is_there_before_it_happens() -> None:
    """Prometheus sees a counter go up only from a value that it has seen."""
    policy = HeldPolicy()
    with (
        serving(world(policy), max_sequences=1, max_queue=7) as api,
        meanwhile(lambda: api.post("completions", {"prompt": "good"})) as first,
    ):
        until(lambda: policy.working == 1)
        page = api.metrics()
        policy.released.set()
        ok(first.result())

    def there(name: str, label: str) -> dict[str, float]:
        return {sample.labels[label]: sample.value for sample in page if sample.name == name}

    assert there("decant_request_duration_seconds_count", "outcome") == dict.fromkeys(OUTCOMES, 0)
    assert there("decant_tokens_total", "kind") == dict.fromkeys(KINDS, 0)
    assert there("decant_candidates_total", "strategy") == {"sample": 0}
    assert there("decant_refused_total", "reason") == dict.fromkeys(REASONS, 0)
    assert [sample.value for sample in page if sample.name == "decant_requests_queued_limit"] == [7]


def test_loaded_guides_are_counted_from_the_start(api: Api) -> None:
    def counts() -> dict[str, float]:
        return {s.labels["guide"]: s.value for s in api.metrics() if s.name == "decant_guide_requests_total"}

    assert counts() == {"kind": 0, "brief": 0}
    api.complete(decoding={"strategy": "sample", "guides": {"kind": 1.0}})
    assert counts() == {"kind": 1, "brief": 0}


def test_what_a_dead_engine_turns_away_is_counted() -> None:
    with serving(world(engines={"policy": FakeEngine(errored=True)})) as api:
        refused(api.post("completions", {"prompt": "good"}), 503)
        refused(api.post("rewards", {"prompt": "good", "completions": ["bad"]}), 503)
        assert api.metric("decant_refused_total", reason="engine_dead") == 2
        assert api.metric("decant_refused_total") == 2


def test_scoring_is_counted_as_a_strategy_of_its_own(api: Api) -> None:
    ok(api.post("rewards", {"prompt": "good bad", "completions": ["bad", "odd odd"]}))
    api.rest()
    assert api.count("request_duration_seconds", strategy="rewards", outcome="ok") == 1
    assert api.metric("decant_tokens_total", strategy="rewards", kind="scored") == 7
    assert api.metric("decant_tokens_total", strategy="rewards", kind="generated") == 0
    assert api.metric("decant_candidates_total", strategy="rewards") == 0


def test_an_engine_is_up_until_it_is_dead() -> None:
    engine = FakeEngine()
    with serving(world(engines={"policy": engine, "reward": FakeEngine()})) as api:
        assert api.metric("decant_engine_up") == 2
        engine.errored = True
        assert api.metric("decant_engine_up", engine="policy") == 0
        assert api.metric("decant_engine_up", engine="reward") == 1


def test_nothing_stays_in_flight_after_errors_and_departures() -> None:
    policy = HeldPolicy()
    with serving(world(policy, {"default": giving(math.nan)}), request_timeout_s=5.0) as api:
        for body in ({"prompt": "good"}, {"prompt": "good", "stream": True}):
            with speaking(api, "completions", body):
                until(lambda: api.metric("decant_requests_in_flight") == 1)
            until(lambda: api.metric("decant_requests_in_flight") == 0)
        policy.released.set()
        refused(api.post("completions", {"prompt": "good", "decoding": BEST}), 502)
        refused(api.post("completions", {"prompt": "good", "zip": 1}), 400)
        api.rest()
        assert api.metric("decant_requests_in_flight") == 0
        outcomes = {o: api.count("request_duration_seconds", outcome=o) for o in ("ok", "failed", "cancelled")}
        assert outcomes == {"ok": 0, "failed": 1, "cancelled": 2}
