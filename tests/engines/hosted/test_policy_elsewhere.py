"""`decant serve` whose policy is on an unmodified `vllm serve`: answers as of an engine of its own."""

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.engine import ENGINE, Tiny
from tests.support.forked import decant
from tests.support.hosted import KEY, Hosted
from tests.support.reference import classify, greedy
from tests.support.relay import Relay
from tests.support.serving import Json, events, refused, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TEXT = "The quick brown fox"
GREEDY: Json = {"temperature": 0, "max_tokens": 23, "ignore_eos": True, "logprobs": 0}
# One candidate each, which at temperature 0 can only be the greedy completion.
WAYS: dict[str, Json] = {
    "sample": {"strategy": "sample"},
    "controlled": {"strategy": "controlled", "candidates": 1, "block_tokens": 5},
    "steps": {"strategy": "controlled", "candidates": 1, "block_tokens": 9, "block_stop": ["e", "o"]},
    "particles": {"strategy": "particles", "particles": 1, "block_tokens": 4},
    "speculative": {"strategy": "speculative_rejection", "n": 1, "checkpoints": [2, 9]},
}


@pytest.fixture(scope="module")
def relay(hosted: Hosted) -> Iterator[Relay]:
    port = hosted.bare.base_url.port
    assert port is not None
    with Relay(port) as relay:
        yield relay


@pytest.fixture(scope="module")
def elsewhere(hosted: Hosted, relay: Relay) -> Iterator[Tiny]:
    """The server, which knows its policy's one by a relay."""
    model = str(hosted.models["policy"])
    settings = {
        "policy": {"model": model, "name": "tiny", "url": f"{relay.url}/v1", "api_key_env": "KEY", "engine": ENGINE},
        "rewards": {"default": {"kind": "classifier", "model": str(hosted.models["classifier"]), "engine": ENGINE}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEY", KEY)
        with decant(settings) as url, httpx.Client(base_url=url, timeout=300) as client:
            yield Tiny(client, hosted.models)


@pytest.mark.parametrize("decoding", WAYS.values(), ids=WAYS.keys())
def test_greedy_answers_equal_transformers(elsewhere: Tiny, decoding: Json) -> None:
    prompt = elsewhere.ids(TEXT)
    tokens, logprobs = greedy(elsewhere.models["policy"], prompt, 23)
    answer = elsewhere.post(prompt=TEXT, **GREEDY, decoding=decoding, return_token_ids=True)
    [choice] = answer["choices"]
    assert choice["token_ids"] == tokens
    assert choice["logprobs"]["token_logprobs"] == pytest.approx(logprobs, abs=1e-4)


def test_a_seeded_sample_is_the_servers_own(elsewhere: Tiny, hosted: Hosted) -> None:
    body: Json = {"prompt": TEXT, "max_tokens": 20, "seed": 5, "temperature": 0.8, "top_k": 50}
    theirs = hosted.bare.post("/v1/completions", json=body).json()
    assert elsewhere.post(**body)["choices"][0]["text"] == theirs["choices"][0]["text"]


def test_the_best_of_four_is_that_of_the_greatest_reward(elsewhere: Tiny) -> None:
    decoding = {"strategy": "best_of_n", "n": 4, "return_candidates": True}
    answer = elsewhere.post(
        prompt=TEXT, max_tokens=8, ignore_eos=True, seed=1, decoding=decoding, return_token_ids=True
    )
    [result] = answer["decoding"]["results"]
    rewards = [candidate["rewards"]["default"] for candidate in answer["decoding"]["candidates"]]
    assert len(set(rewards)) == 4
    assert result["rewards"]["default"] == max(rewards)
    ids = elsewhere.ids(TEXT) + answer["choices"][0]["token_ids"]
    assert max(rewards) == pytest.approx(float(classify(elsewhere.models["classifier"], ids)[0]), abs=1e-4)


def test_divergence_is_read_from_the_server(elsewhere: Tiny) -> None:
    """At temperature 0 it is minus the answer's log-probability, which one more request to the server tells."""
    prompt = elsewhere.ids(TEXT)
    _, logprobs = greedy(elsewhere.models["policy"], prompt, 9)
    body: Json = {
        "max_tokens": 9,
        "temperature": 0,
        "ignore_eos": True,
        "decoding": {"strategy": "sample", "return_kl": True},
    }
    [result] = elsewhere.post(prompt=TEXT, **body)["decoding"]["results"]
    assert result["kl"]["nats"] == pytest.approx(-math.fsum(logprobs), abs=1e-3)
    assert result["kl"]["reference"] == "policy"


@pytest.mark.parametrize("decoding", [{"strategy": "sample"}, WAYS["controlled"]], ids=["sample", "controlled"])
def test_a_stream_adds_up_to_the_whole_answer(elsewhere: Tiny, decoding: Json) -> None:
    body: Json = {"prompt": TEXT, "max_tokens": 12, "seed": 3, "ignore_eos": True, "decoding": decoding}
    chunks, _ = events(elsewhere.client.post("/v1/completions", json={**body, "stream": True}).text)
    chunks = [chunk for chunk in chunks if chunk["choices"]]
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert len(chunks) > 1
    assert text == elsewhere.post(**body)["choices"][0]["text"]


def test_what_the_server_constrains_is_constrained(elsewhere: Tiny) -> None:
    decoding = {"strategy": "best_of_n", "n": 2}
    structured = {"choice": ["yes", "no"]}
    answer = elsewhere.post(prompt=TEXT, max_tokens=9, structured_outputs=structured, decoding=decoding)
    assert answer["choices"][0]["text"] in ("yes", "no")


def test_what_it_cannot_do_is_refused_by_name(elsewhere: Tiny) -> None:
    def asks(decoding: Json) -> Json:
        body = {"prompt": TEXT, "max_tokens": 9, "decoding": decoding}
        return refused(elsewhere.client.post("/v1/completions", json=body), 400)

    cascade = asks({"strategy": "cascade", "accept_threshold": 0})
    assert "another server runs it (policy.url)" in cascade["message"]
    assert asks({"strategy": "reward_guided", "guides": {"weak": 1}})["param"] == "decoding.guides"
    too_many = elsewhere.client.post("/v1/completions", json={"prompt": TEXT, "logprobs": 5000})
    assert refused(too_many, 400)["param"] == "logprobs"


def running(hosted: Hosted) -> float:
    lines = hosted.bare.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running{"))


def test_a_client_that_leaves_ends_the_work_there(elsewhere: Tiny, hosted: Hosted) -> None:
    body: dict[str, Any] = {"prompt": TEXT, "max_tokens": 900, "ignore_eos": True, "stream": True}
    with elsewhere.client.stream("POST", "/v1/completions", json=body) as response:
        assert next(response.iter_lines()).startswith("data: ")
        assert running(hosted) == 1
    until(lambda: running(hosted) == 0)


def test_while_the_server_is_away_requests_fail_and_others_are_sent_elsewhere(elsewhere: Tiny, relay: Relay) -> None:
    body: Json = {"prompt": TEXT, "max_tokens": 4, "decoding": {"strategy": "best_of_n", "n": 2}}
    assert elsewhere.client.get("/readyz").status_code == 200
    relay.cut()
    assert elsewhere.client.get("/readyz").status_code == 503
    assert elsewhere.client.get("/healthz").status_code == 200  # a restart would not help
    assert refused(elsewhere.client.post("/v1/completions", json=body), 500)["code"] == "engine_failed"
    relay.mend()
    assert elsewhere.post(**body)["choices"][0]["text"]
    assert elsewhere.client.get("/readyz").status_code == 200
