"""/metrics: rewards, gains and divergences of real requests."""

import math
from collections.abc import Iterator

import pytest

from decoders.testing import ToyBrevity
from server.loading import toy
from server.runtime.metrics import REWARD
from tests.support.fakes import giving, world
from tests.support.serving import Api, Json, serving

BEST: Json = {"strategy": "best_of_n", "n": 8, "return_candidates": True}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def holds(api: Api, histogram: str, values: list[float], **labels: str) -> bool:
    """Whether a histogram's buckets are those of the values. One with negative buckets has no sum to look at."""
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in api.metrics()
        if sample.name == f"decant_{histogram}_bucket" and labels.items() <= sample.labels.items()
    ]
    return buckets == [(bound, sum(v <= bound for v in values)) for bound in (*REWARD, math.inf)]


def test_gain_is_the_returned_reward_minus_the_candidates_mean(api: Api) -> None:
    weights = {"default": 1.0, "brevity": 0.5}
    bodies = [api.complete(n=2, decoding={**BEST, "reward": weights}) for _ in range(3)]
    for name in weights:
        results = [(result, body) for body in bodies for result in body["decoding"]["results"]]
        rewards = [result["rewards"][name] for result, _ in results]
        means = [sum(c["rewards"][name] for c in body["decoding"]["candidates"]) / 8 for _, body in results]
        gains = [reward - mean for reward, mean in zip(rewards, means, strict=True)]
        assert len(gains) == 6
        assert holds(api, "reward", rewards, strategy="best_of_n", reward=name)
        assert holds(api, "reward_gain", gains, strategy="best_of_n", reward=name)
    assert api.count("kl_nats", strategy="best_of_n") == 6
    assert 0 < api.total("kl_nats", strategy="best_of_n") <= 6 * math.log(8)


def test_a_plain_sample_has_no_gain_and_no_distance(api: Api) -> None:
    body = api.complete(decoding={"strategy": "sample", "reward": "default"})
    rewards = [body["decoding"]["results"][0]["rewards"]["default"]]
    assert holds(api, "reward", rewards, strategy="sample", reward="default")
    assert api.count("reward_gain", strategy="sample") == 0
    assert api.count("kl_nats", strategy="sample") == 1
    assert api.total("kl_nats", strategy="sample") == 0


def test_only_divergence_from_the_frozen_policy_is_counted(api: Api) -> None:
    asked = {"strategy": "sample", "return_kl": True}
    [truncated] = api.complete(top_k=2, decoding=asked)["decoding"]["results"]
    assert truncated["kl"] == {"nats": 0.0, "estimator": "exact", "reference": "sampling"}
    api.complete(temperature=0.5, decoding=BEST)
    assert api.count("kl_nats", strategy="sample") == api.count("kl_nats", strategy="best_of_n") == 0
    [tempered] = api.complete(temperature=0.5, decoding=asked)["decoding"]["results"]
    assert tempered["kl"]["reference"] == "policy"
    assert api.count("kl_nats", strategy="sample") == 1
    assert api.total("kl_nats", strategy="sample") == pytest.approx(tempered["kl"]["nats"])


def test_a_reward_that_is_not_finite_is_not_counted() -> None:
    with serving(world(rewards={"default": ToyBrevity(), "inf": giving(math.inf)})) as api:
        rewards = {"default": 1.0, "inf": 1.0}
        api.complete(decoding={"strategy": "sample", "reward": rewards})
        assert api.count("reward", reward="default") == 1
        assert api.count("reward", reward="inf") == 0
