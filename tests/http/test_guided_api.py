"""Guides over HTTP on the toy: requests, refusals and reports."""

import json
from typing import Any

import httpx
import pytest

from server import loading
from tests.support.serving import JSON, serving

GUIDED = {"strategy": "reward_guided", "guides": {"kind": 1.0}}


def ask(decoding: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any]]:
    with serving(loading.toy()) as api:
        answer = api.post("completions", {"model": "toy", "prompt": "good", "seed": 3, "decoding": decoding, **more})
        return answer.status_code, answer.json()


def test_a_guided_answer_says_how_far_it_is_from_the_policy() -> None:
    status, body = ask({**GUIDED, "return_kl": True, "reward": "default"}, n=2)
    assert status == 200
    for result in body["decoding"]["results"]:
        assert set(result) == {"rewards", "kl", "policy_logprob"}
        assert result["kl"]["estimator"] == "log_ratio"
    assert "kl" not in ask(GUIDED)[1]["decoding"]["results"][0]


@pytest.mark.parametrize(
    ("decoding", "param", "words"),
    [
        ({"strategy": "reward_guided"}, "decoding.guides", "Loaded guides: brief, kind"),
        ({"guides": {"who": 1}}, "decoding.guides", "'who' is not loaded. Loaded guides: brief, kind"),
        ({"strategy": "best_of_n", "guides": {"kind": 1e3}}, "decoding.guides.kind", "Loaded guides: brief, kind"),
        ({"guides": {f"g{i}": 1 for i in range(99)}}, "decoding.guides", "Loaded guides: brief, kind"),
        ({"guides": {"kind": "much"}}, "decoding.guides.kind", "number"),
        ({"guides": ["kind"]}, "decoding.guides", "object"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_loaded(decoding: dict[str, Any], param: str, words: str) -> None:
    status, body = ask({"strategy": "sample", **decoding})
    assert (status, body["error"]["param"]) == (400, param)
    assert words in body["error"]["message"]


def test_an_infinite_weight_is_out_of_range() -> None:
    content = json.dumps({"model": "toy", "prompt": "good", "decoding": GUIDED}).replace("1.0", "1e999")
    with serving(loading.toy()) as api:
        answer = httpx.post(f"{api.url}/v1/completions", content=content, headers=JSON)
    assert answer.status_code == 400
    assert "Loaded guides: brief, kind" in answer.json()["error"]["message"]


def test_a_stream_is_the_answer_token_by_token() -> None:
    _, whole = ask({**GUIDED, "return_kl": True})
    with serving(loading.toy()) as api:
        body = {"model": "toy", "prompt": "good", "seed": 3, "stream": True, "decoding": {**GUIDED, "return_kl": True}}
        lines = api.post("completions", body).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert len(chunks) > 1
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole["choices"][0]["text"]
    assert chunks[-1]["decoding"]["results"] == whole["decoding"]["results"]
    assert all(c["choices"][0]["logprobs"] is None for c in chunks)  # nobody asked, though they were needed


def test_guides_are_listed_and_counted() -> None:
    with serving(loading.toy()) as api:
        listed = httpx.get(f"{api.url}/v1/strategies").json()
        assert listed["guides"] == {"kind": {"kind": "arm"}, "brief": {"kind": "q_head"}}
        assert listed["limits"]["guide_weight"] == 100
        assert "reward_guided" in listed["strategies"]
        both = {"strategy": "best_of_n", "n": 2, "guides": {"kind": 1, "brief": 0}}
        for decoding in (GUIDED, both):
            assert api.post("completions", {"model": "toy", "prompt": "good", "decoding": decoding}).status_code == 200
        assert api.metric("decant_guide_requests_total", guide="kind") == 2
        assert api.metric("decant_guide_requests_total", guide="brief") == 0, "a weight of 0 uses no guide"
