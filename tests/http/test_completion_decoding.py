"""POST /v1/completions with `decoding`: which candidate is returned, and what is reported."""

import math

import pytest

from decoders.testing import ToyReward
from tests.support.fakes import toy_reward, world
from tests.support.serving import Api, Json, ok, refused, serving, texts


def test_decoding_is_reported_only_where_it_is_asked_for(api: Api) -> None:
    assert "decoding" not in api.complete()
    report = api.complete(decoding={"strategy": "sample"})["decoding"]
    assert report["strategy"] == "sample"
    assert report["results"] == [{"rewards": {}}]
    assert "candidates" not in report


def test_best_of_n_returns_the_best_of_its_candidates(api: Api) -> None:
    decoding = {"strategy": "best_of_n", "n": 16, "return_candidates": True}
    body = api.complete(["good", "bad"], decoding=decoding)
    report = body["decoding"]
    for p, choice in enumerate(body["choices"]):
        candidates = [c for c in report["candidates"] if c["prompt"] == p]
        assert [c["index"] for c in candidates] == list(range(16))
        rewards = [c["rewards"]["default"] for c in candidates]
        assert rewards == [toy_reward(c["text"]) for c in candidates]
        assert [c["text"] for c in candidates if c["chosen"]] == [choice["text"]]
        assert toy_reward(choice["text"]) == max(rewards) == report["results"][p]["rewards"]["default"]
        assert report["results"][p]["mean_rewards"]["default"] == pytest.approx(sum(rewards) / 16)
        assert report["results"][p]["draws"] == 16
    cost = report["cost"]
    assert cost["candidates"] == 32
    assert cost["generated_tokens"] == sum(c["tokens"] for c in report["candidates"])
    assert cost["scored_tokens"] == cost["generated_tokens"] + 32
    assert cost["returned_tokens"] == sum(c["tokens"] for c in report["candidates"] if c["chosen"])
    assert set(cost["seconds"]) == {"queue", "generate", "score", "select"}
    assert body["usage"]["completion_tokens"] == cost["generated_tokens"]


def test_n_of_best_of_n_are_the_n_best_in_order(api: Api) -> None:
    body = api.complete(n=3, decoding={"strategy": "best_of_n", "n": 12, "return_candidates": True})
    every = sorted((c["rewards"]["default"] for c in body["decoding"]["candidates"]), reverse=True)
    assert [toy_reward(text) for text in texts(body)] == every[:3]
    assert [result["rewards"]["default"] for result in body["decoding"]["results"]] == every[:3]


def test_several_rewards_count_by_their_weights(api: Api) -> None:
    weights = {"default": 1.0, "brevity": 2.5}
    decoding = {"strategy": "best_of_n", "n": 12, "reward": weights, "return_candidates": True}
    for seed in range(4):
        report = api.complete(seed=seed, decoding=decoding)["decoding"]
        totals = [sum(w * c["rewards"][name] for name, w in weights.items()) for c in report["candidates"]]
        assert [t for t, c in zip(totals, report["candidates"], strict=True) if c["chosen"]] == [max(totals)]


def test_kl_comes_on_request_with_its_estimator(api: Api) -> None:
    def kl(**decoding: object) -> Json:
        result: Json = api.complete(seed=1, decoding=decoding)["decoding"]["results"][0]
        return result

    assert kl(strategy="sample", return_kl=True)["kl"] == {
        "nats": 0.0,
        "estimator": "exact",
        "reference": "policy",
    }
    assert "kl" not in kl(strategy="best_of_n", n=4)
    best = kl(strategy="best_of_n", n=4, return_kl=True, batch=2)["kl"]
    assert 0 < best["nats"] <= math.log(4)
    assert (best["estimator"], best["reference"]) == ("atomic", "policy")


@pytest.mark.parametrize(
    ("loaded", "used"), [(("default", "other"), "default"), (("other",), "other"), (("some", "other"), None)]
)
def test_without_a_name_the_default_reward_counts_or_else_the_only_one(
    loaded: tuple[str, ...], used: str | None
) -> None:
    with serving(world(rewards={name: ToyReward() for name in loaded})) as api:
        response = api.post("completions", {"prompt": "good", "decoding": {"strategy": "best_of_n"}})
        if used is not None:
            assert list(ok(response)["decoding"]["results"][0]["rewards"]) == [used]
        else:
            error = refused(response, 400)
            assert error["param"] == "decoding.reward"
            assert "other, some" in error["message"]
