"""Rewards that do not apply to every completion, over HTTP: every strategy, the report, scores alone and metrics."""

from collections.abc import Callable
from typing import Any

import pytest

from decoders import STRATEGIES
from decoders.models import Reward
from decoders.testing import ToyBrevity
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.function_call import RewardCall
from server.engines.rewards.function_reward import call_in_thread
from tests.support.fakes import world
from tests.support.serving import PATIENCE, Api, Json, ok, refused, serving


def function(call: Callable[[list[str], list[str]], list[float | None]]) -> Reward:
    """Return the reward as the server builds it, but for its time-out, which `world` adds."""
    return Batcher(call_in_thread(RewardCall(call, None)), 64, PATIENCE)


def odd(_: list[str], completions: list[str]) -> list[float | None]:
    """Count "odd" in completions that have it; the reward does not apply to any other."""
    return [float(c.count("odd")) if "odd" in c else None for c in completions]


def never(_: list[str], completions: list[str]) -> list[float | None]:
    return [None] * len(completions)


def serve(rewards: dict[str, Callable[[list[str], list[str]], list[float | None]]]) -> Any:
    return serving(world(rewards={"brevity": ToyBrevity(), **{name: function(c) for name, c in rewards.items()}}))


FIELDS: dict[str, Json] = {
    "best_of_n": {"n": 4},
    "controlled": {"block_tokens": 64},
    "rejection": {"r_max": 9.0},
    "particles": {"particles": 4},
    "speculative_rejection": {"n": 4, "checkpoints": [1]},
    "cascade": {"accept_threshold": -1.0, "accept_start": -2.0},
}
ALL: list[str] = [strategy.model_fields["strategy"].default for strategy in STRATEGIES]


def test_every_strategy_that_chooses_by_reward_has_a_case() -> None:
    assert set(ALL) - set(FIELDS) == {"sample", "reward_guided"}


@pytest.mark.parametrize("strategy", FIELDS)
def test_every_strategy_decides_by_the_rewards_that_apply(strategy: str) -> None:
    both = {"strategy": strategy, **FIELDS[strategy], "reward": {"odd": 1.0, "brevity": 1.0}, "return_candidates": True}
    alone = {**both, "reward": "odd"}
    statuses = []
    with serve({"odd": odd, "never": never}) as api:
        for seed in range(8):
            report = api.complete(seed=seed, decoding=both)["decoding"]
            for one in (*report["results"], *report["candidates"]):
                assert one["rewards"]["brevity"] is not None
                if "text" in one:
                    assert one["rewards"]["odd"] == (one["text"].count("odd") or None)
            answer = api.post("completions", {"prompt": "good", "seed": seed, "decoding": alone})
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                assert "odd" in ok(answer)["choices"][0]["text"]
                assert ok(answer)["decoding"]["results"][0]["rewards"]["odd"] >= 1.0
            else:
                assert refused(answer, 502)["code"] == "reward_failed"
        assert 200 in statuses
        nothing = {"prompt": "good", "decoding": {**both, "reward": "never"}}
        assert refused(api.post("completions", nothing), 502)["code"] == "reward_failed"
        assert refused(api.post("completions", {**nothing, "stream": True}), 502)["code"] == "reward_failed"


def test_a_reported_reward_that_does_not_apply_is_null_and_changes_nothing() -> None:
    with serve({"never": never}) as api:
        report = api.complete(decoding={"strategy": "sample", "reward": {"never": 1.0, "brevity": 1.0}})["decoding"]
        [result] = report["results"]
        assert result["rewards"]["never"] is None
        assert result["rewards"]["brevity"] is not None


def test_scoring_alone_gives_null_and_the_sum_of_the_others() -> None:
    weights = {"odd": 2.0, "brevity": 1.0}
    body = {"prompt": "good", "completions": ["odd odd", "bad"], "reward": weights}
    with serve({"odd": odd}) as api:
        rows = ok(api.post("rewards", body))["data"]
        assert [row["rewards"] for row in rows] == [{"odd": 2.0, "brevity": -2.0}, {"odd": None, "brevity": -1.0}]
        assert [row["total"] for row in rows] == [2.0, -1.0]
        rows = ok(api.post("rewards", {**body, "reward": "odd"}))["data"]
        assert [(row["rewards"], row["total"]) for row in rows] == [({"odd": 2.0}, 2.0), ({"odd": None}, None)]
        rows = ok(api.post("rewards", {**body, "calibrated": True, "rollouts": 20, "seed": 1}))["data"]
        assert rows[1]["calibrated_rewards"]["odd"] is None
        assert rows[1]["total"] == rows[1]["calibrated_rewards"]["brevity"]
        quantiles = rows[0]["calibrated_rewards"]
        assert rows[0]["total"] == pytest.approx(sum(w * quantiles[name] for name, w in weights.items()))


def reward_samples(api: Api, name: str) -> dict[str, float]:
    """Return the count and the sum of the rewards that the metrics have, and the count of gains."""
    api.rest()
    return {k: api.metric(f"decant_{k}", reward=name) for k in ("reward_count", "reward_sum", "reward_gain_count")}


def test_means_and_metrics_are_of_the_rewards_that_apply() -> None:
    decoding = {"strategy": "best_of_n", "n": 8, "reward": {"odd": 0.0, "brevity": 1.0}, "return_candidates": True}
    with serve({"odd": odd, "never": never}) as api:
        count = total = 0.0
        for seed in range(6):
            report = api.complete(seed=seed, decoding=decoding)["decoding"]
            own = [c["rewards"]["odd"] for c in report["candidates"] if c["rewards"]["odd"] is not None]
            mean = report["results"][0]["mean_rewards"]["odd"]
            assert mean == (pytest.approx(sum(own) / len(own)) if own else None)
            reward = report["results"][0]["rewards"]["odd"]
            count, total = count + (reward is not None), total + (reward or 0.0)
        assert reward_samples(api, "odd") == {
            "reward_count": count, "reward_sum": total, "reward_gain_count": count
        }  # fmt: skip
        api.complete(decoding={**decoding, "reward": {"never": 1.0, "brevity": 1.0}})
        assert reward_samples(api, "never")["reward_count"] == 0
