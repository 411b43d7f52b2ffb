"""Calibrated rewards on the toy, in /v1/rewards and in a search."""

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoders.core import Prompt, Sampling
from decoders.testing import WatchedPolicy
from server.loading import toy
from server.settings.reading import read_settings
from tests.support.fakes import giving, world
from tests.support.serving import Api, Json, ok, refused, serving

CHAT: Json = {"messages": [{"role": "user", "content": "good"}]}
BEST: Json = {"strategy": "best_of_n", "n": 4}
CALIBRATED: Json = {"calibrated": True, "rollouts": 20}
WEIGHTS = {"default": 2.0, "brevity": 0.5}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server whose store has four rewards of 'good', of completions of 16 tokens, by `default` alone."""
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)
    loaded = toy(read_settings(policy={"model": "toy"}, calibration={"store": tmp_path / "rollouts.db", "rollouts": 4}))
    assert loaded.models.calibration is not None
    asyncio.run(loaded.models.calibration.keep(Prompt((1,), ""), Sampling(), "default", [-1.0, 0.0, 0.0, 1.0]))
    with serving(loaded) as api:
        yield api
    asyncio.run(loaded.aclose())


def test_a_calibrated_reward_is_its_quantile_among_the_stored_rewards(stored: Api) -> None:
    body = {"prompt": "good", "completions": ["good", "bad", "", "good good", "plain"], "reward": "default"}
    answer = ok(stored.post("rewards", {**body, "calibrated": True, "on_demand": False}))
    assert [row["rewards"] for row in answer["data"]] == [{"default": r} for r in (1.0, -1.0, 0.0, 2.0, 0.25)]
    quantiles = [0.875, 0.125, 0.5, 1.0, 0.75]
    assert [row["calibrated_rewards"] for row in answer["data"]] == [{"default": c} for c in quantiles]
    assert [row["total"] for row in answer["data"]] == quantiles
    assert answer["cost"]["generated_tokens"] == 0
    assert "calibrated_rewards" not in ok(stored.post("rewards", body))["data"][0]


def test_the_total_is_the_weighted_sum_of_quantiles(api: Api) -> None:
    body = {"prompt": "odd", "completions": ["good", "bad odd"], "reward": WEIGHTS, **CALIBRATED}
    answer = ok(api.post("rewards", body))
    assert 20 <= answer["cost"]["generated_tokens"] <= 20 * 4
    assert answer["cost"]["scored_tokens"] == 2 * (answer["cost"]["generated_tokens"] + 20 + (2 + 3))
    assert set(answer["cost"]["seconds"]) == {"queue", "generate", "score"}
    for row in answer["data"]:
        assert set(row["rewards"]) == set(row["calibrated_rewards"]) == set(WEIGHTS)
        assert all(0 <= c <= 1 for c in row["calibrated_rewards"].values())
        total = sum(weight * row["calibrated_rewards"][name] for name, weight in WEIGHTS.items())
        assert row["total"] == pytest.approx(total, abs=1e-12)


def test_rollouts_of_scored_completions_are_drawn_as_asked_and_by_the_seed(api: Api) -> None:
    def ask(**more: object) -> Json:
        return ok(api.post("rewards", {**CHAT, "completions": ["plain odd"], **CALIBRATED, **more}))

    assert [ask(seed=3)["data"] for _ in range(3)] == [ask(seed=3)["data"]] * 3
    assert len({str(ask(seed=seed)["data"]) for seed in range(8)}) > 1
    assert ask(max_tokens=1)["cost"]["generated_tokens"] == 20
    assert ask(max_tokens=1, rollouts=7)["cost"]["generated_tokens"] == 7
    assert ask(max_tokens=1, rollouts=None)["cost"]["generated_tokens"] == 100
    assert ask(temperature=0.01)["cost"]["generated_tokens"] % 20 == 0, "all alike"


def test_what_a_reward_without_a_value_has_is_null() -> None:
    with serving(world(rewards={"default": giving(math.inf)})) as api:
        [row] = ok(api.post("rewards", {"prompt": "good", "completions": ["bad"], **CALIBRATED}))["data"]
    assert (row["rewards"], row["calibrated_rewards"], row["total"]) == ({"default": None}, {"default": None}, None)


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        *(({name: value}, name, f"'{name}' is about samples of the policy: set calibrated.") for name, value in {
            "rollouts": 5, "on_demand": True, "max_tokens": 5, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
            "min_p": 0.0, "stop": "a", "seed": 1,
        }.items()),
        ({"calibrated": True, "on_demand": False}, "on_demand", "has no 4 stored rollouts of brevity"),
        ({"calibrated": True, "rollouts": 0}, "rollouts", "greater than or equal to 1"),
        ({"calibrated": True, "rollouts": 1025}, "rollouts", "less than or equal to 1024"),
        ({"calibrated": True, "temperature": 0}, "temperature", "greater than or equal to 0.01"),
        ({"calibrated": True, "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"calibrated": True, "max_tokens": 64}, "max_tokens", "together over this model's context of 64"),
        ({"calibrated": True, "prompt": "odd " * 64}, "prompt", "The prompt has 64 tokens"),
        ({"calibrated": True, "prompt": ""}, "prompt", "The prompt is empty"),
        ({"calibrated": True, "top_p": 0.5}, "top_p", "does not support"),
        ({"calibrated": True, "reward": "zip"}, "reward", "brevity, default"),
    ],
)  # fmt: skip
def test_what_cannot_be_calibrated_is_a_400_that_names_the_field(
    stored: Api, change: Json, param: str, words: str
) -> None:
    body = {"prompt": "good", "completions": ["bad"], "reward": "brevity"}
    error = refused(stored.post("rewards", {**body, **change}), 400)
    assert error["param"] == param
    assert words in error["message"]


def test_messages_that_are_too_long_to_sample_after_are_named(api: Api) -> None:
    body = {"messages": [{"role": "user", "content": "odd " * 64}], "completions": ["bad"]}
    ok(api.post("rewards", body))
    assert refused(api.post("rewards", {**body, **CALIBRATED}), 400)["param"] == "messages"


def test_rollouts_over_the_servers_own_bounds_are_refused_unless_they_may_not_be_drawn() -> None:
    body = {"prompt": "good", "completions": ["bad"], **CALIBRATED, "max_tokens": 5}
    bounds: list[tuple[dict[str, Any], Json]] = [
        ({"max_candidates": 20}, {"rollouts": 21}),
        ({"max_generated_tokens": 100}, {"max_tokens": 6}),
    ]
    for limits, wrong in bounds:
        policy = WatchedPolicy()
        with serving(world(policy), **limits) as api:
            error = refused(api.post("rewards", {**body, **wrong}), 400)
            assert (error["param"], policy.peak) == ("rollouts", 0)
            assert "over this server's budget of" in error["message"]
            assert refused(api.post("rewards", {**body, **wrong, "on_demand": False}), 400)["param"] == "on_demand"
            ok(api.post("rewards", body))


TRANSFORMS = [{"kind": "identity"}, {"kind": "log"}, {"kind": "exponential", "t": -2.0}]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform["kind"])
@pytest.mark.parametrize(
    "fields",
    [
        BEST,
        {"strategy": "controlled", "block_tokens": 2},
        {"strategy": "particles", "block_tokens": 2},
        {"strategy": "rejection", "max_draws": 64},
    ],
    ids=lambda fields: fields["strategy"],
)
def test_a_calibrated_search_reports_quantiles(api: Api, fields: Json, transform: Json) -> None:
    decoding = {**fields, **CALIBRATED, "transform": transform, "reward": WEIGHTS, "return_candidates": True}
    for seed in range(3):
        report = api.complete(n=2, seed=seed, decoding=decoding)["decoding"]
        assert len(report["results"]) == 2
        chosen = [candidate for candidate in report["candidates"] if candidate["chosen"]]
        assert len(chosen) == 2
        for scored in (*report["results"], *report["candidates"]):
            assert set(scored["calibrated_rewards"]) == set(WEIGHTS)
            assert all(0 <= c <= 1 for c in scored["calibrated_rewards"].values())
        for result in report["results"]:
            assert result["calibrated_rewards"] in [candidate["calibrated_rewards"] for candidate in chosen]
        assert report["cost"]["candidates"] > 20
        assert "calibrated_rewards" not in api.complete(decoding=BEST)["decoding"]["results"][0]


def test_the_best_is_the_best_by_the_transformed_quantiles(stored: Api) -> None:
    decoding = {**BEST, "calibrated": True, "on_demand": False, "reward": "default", "return_candidates": True}
    quantile = {-1.0: 0.125, 0.0: 0.5, 1.0: 0.875}
    for seed in range(8):
        report = stored.complete(seed=seed, decoding=decoding)["decoding"]
        for candidate in report["candidates"]:
            worth = candidate["rewards"]["default"]
            want = quantile.get(worth, 0.0 if worth < -1 else 1.0 if worth > 1 else 0.75 if worth > 0 else 0.25)
            assert candidate["calibrated_rewards"] == {"default": want}
        best = max(candidate["calibrated_rewards"]["default"] for candidate in report["candidates"])
        assert report["results"][0]["calibrated_rewards"] == {"default": best}
        assert report["cost"]["candidates"] == 4


@pytest.mark.parametrize(
    "decoding",
    [
        BEST,
        {"strategy": "controlled", "block_tokens": 2},
        {"strategy": "rejection", "beta": 0.5},
        {"strategy": "particles", "particles": 2},
        {"strategy": "speculative_rejection", "n": 2, "checkpoints": [1]},
        {"strategy": "cascade", "accept_threshold": 0.1},
    ],
    ids=lambda decoding: decoding["strategy"],
)
def test_a_result_says_what_its_quantiles_stand_on_and_whether_others_stand_on_the_same(
    api: Api, decoding: Json
) -> None:
    for n in (1, 2):
        results = api.complete(n=n, seed=1, decoding={**decoding, **CALIBRATED, "reward": WEIGHTS})["decoding"][
            "results"
        ]
        want = {"rollouts": {"default": 20, "brevity": 20}, "shared": n > 1}
        assert [result["calibration"] for result in results] == [want] * n
    plain = {**decoding, "reward": "default", **({"r_max": 9.0} if decoding["strategy"] == "rejection" else {})}
    assert "calibration" not in api.complete(decoding=plain)["decoding"]["results"][0]
