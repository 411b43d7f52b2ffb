"""Clients of a server with guides: streaming, mistaken, hostile, many at once, and gone."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.support.engine import Tiny
from tests.support.guiding import KINDS, ONE, TEXT, WEIGHTS, choice, guided
from tests.support.serving import JSON

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
LOADED = ", ".join(sorted(KINDS))


def test_a_stream_is_the_answer(tiny: Tiny) -> None:
    body: dict[str, Any] = {"prompt": TEXT, "max_tokens": 16, "seed": 3, "decoding": guided(ONE, return_kl=True)}
    whole = tiny.post(**body)
    lines = tiny.client.post("/v1/completions", json={**body, "stream": True}).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert len(chunks) > 3
    assert "".join(c["choices"][0]["text"] for c in chunks if c["choices"]) == whole["choices"][0]["text"]
    assert chunks[-1]["decoding"]["results"][0]["kl"] == whole["decoding"]["results"][0]["kl"]


REFUSED: list[tuple[str, str]] = [
    ('{"strategy": "reward_guided"}', "decoding.guides"),
    ('{"strategy": "reward_guided", "guides": {"weak": 0}}', "decoding.guides"),
    ('{"strategy": "reward_guided", "guides": {"nobody": 1}}', "decoding.guides"),
    ('{"strategy": "best_of_n", "guides": {"weak": 101}}', "decoding.guides.weak"),
    ('{"strategy": "sample", "guides": {"weak": 1e999}}', "decoding.guides.weak"),
    ('{"strategy": "sample", "guides": {"weak": -1e308}}', "decoding.guides.weak"),
    ('{"strategy": "sample", "guides": {"head_values": 1}}', "decoding.guides"),
    ('{"strategy": "sample", "guides": {"weak": "much"}}', ""),
    ('{"strategy": "reward_guided", "guides": {"weak": null}}', "decoding.guides"),  # as if it had not been sent
    ('{"strategy": "sample", "guides": [1.0]}', ""),
    ('{"strategy": "sample", "guides": {"": 1}}', "decoding.guides"),
]


def test_a_bad_guide_is_named_with_those_that_are_loaded(tiny: Tiny) -> None:
    for decoding, field in REFUSED:
        answer = tiny.client.post("/v1/completions", content=f'{{"prompt": "x", "decoding": {decoding}}}', headers=JSON)
        assert answer.status_code == 400, decoding
        error = answer.json()["error"]
        if field:
            assert (error["param"], LOADED in error["message"]) == (field, True), error
        else:
            assert error["param"].startswith("decoding.guides")


def test_odd_but_lawful_guides_leave_the_engine_alive(tiny: Tiny) -> None:
    extreme = dict.fromkeys(KINDS, 100.0)
    bodies: list[dict[str, Any]] = [
        {"decoding": guided(extreme)},
        {"decoding": guided(dict.fromkeys(extreme, -100.0))},
        {"decoding": guided({"weak": 5e-324})},
        {"decoding": guided(extreme), "logit_bias": dict.fromkeys(range(300), -100)},
        {"decoding": guided(extreme, "best_of_n", n=3, return_kl=True, reward="implied"), "temperature": 0.01},
        {"decoding": guided(extreme, return_kl=True), "temperature": 2.0, "prompt": [0]},
        {"decoding": guided(ONE), "min_p": 1.0, "top_p": 1e-6, "repetition_penalty": 1e-9},
        {"decoding": guided(ONE), "prompt": tiny.ids(TEXT) * 20, "max_tokens": 1, "echo": True, "logprobs": 5},
    ]
    for body in bodies:
        answer = tiny.client.post("/v1/completions", json={"prompt": "x", "max_tokens": 4, **body})
        assert answer.status_code == 200, (body, answer.text)
        assert choice(tiny, ONE, max_tokens=2)["finish_reason"] in ("length", "stop")
    assert tiny.client.get("/readyz").status_code == 200


def test_long_seeded_guided_prompts_under_load_leave_the_engine_alive(tiny: Tiny) -> None:
    words = tiny.ids("How much wood would a woodchuck chuck? " * 200)

    def ask(i: int) -> list[str]:
        prompt = words[i : i + 900 + i]
        answer = tiny.post(prompt=prompt, max_tokens=16, seed=i, n=2, decoding=guided(WEIGHTS[i % len(WEIGHTS)]))
        return [c["text"] for c in answer["choices"]]

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, range(10))) == list(pool.map(ask, range(10)))


def test_a_client_that_leaves_stops_the_guided_engines_work(tiny: Tiny) -> None:
    """What these four would still have to do takes the engine far longer than the one who comes after them waits."""
    body = {"prompt": "The", "max_tokens": 900, "ignore_eos": True, "n": 16, "decoding": guided(ONE)}

    def leave(stream: bool) -> None:
        ask = {**body, "stream": stream}
        with (
            suppress(httpx.ReadTimeout),
            httpx.Client(base_url=tiny.client.base_url) as client,
            client.stream("POST", "/v1/completions", json=ask, timeout=2) as answer,
        ):
            next(answer.iter_lines())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(leave, [True, False] * 2))
    asked = {"prompt": "The", "max_tokens": 2, "decoding": guided(ONE)}
    assert tiny.client.post("/v1/completions", json=asked, timeout=20).status_code == 200
    deadline = time.monotonic() + 30
    while tiny.metric("decant_requests_in_flight") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_guides_are_listed(tiny: Tiny) -> None:
    found = tiny.client.get("/v1/strategies").json()
    assert found["guides"] == {name: {"kind": kind} for name, kind in KINDS.items()}
    assert found["rewards"]["likely"]["kind"] == "guide"
