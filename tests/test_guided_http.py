"""Guides on a real server: the guided law against Transformers, and all that a client may do with it."""

import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from decoders.weights import atomic_kl, best_of_n_kl
from tests.engine import Tiny
from tests.guided import Reference, logits

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
CLOSE = 1e-4
TEXT = "The quick brown fox jumps over the lazy dog. A good answer is"
LOADED = "expert, tuned, values, weak"
WEIGHTS: list[dict[str, float]] = [
    {"weak": 1.0},
    {"weak": 0.5, "tuned": -1.0},
    {"expert": 0.8},
    {"values": 1.5},
    {"weak": -0.4, "values": -1.0, "tuned": 2.0, "expert": 0.3},
]
ONE = {"weak": 0.7, "values": 1.0, "tuned": 0.5}
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 10, "ignore_eos": True, "logprobs": 0}


@pytest.fixture(scope="module")
def reference(tiny: Tiny) -> Reference:
    models = tiny.models
    guides = {"weak": models["llama"], "tuned": models["tuned"], "expert": models["window"]}
    references = {"tuned": models["policy"], "expert": models["llama"]}
    return Reference(models["policy"], guides, references, {"values": models["head"]})


def guided(guides: dict[str, float], strategy: str = "reward_guided", **more: Any) -> dict[str, Any]:
    return {"strategy": strategy, "guides": guides, **more}


def choice(tiny: Tiny, guides: dict[str, float], prompt: Any = TEXT, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = tiny.post(prompt=prompt, decoding=guided(guides), **more)["choices"][0]
    return found


def test_greedy_guided_completions_equal_transformers_in_a_mixed_batch(tiny: Tiny, reference: Reference) -> None:
    def ask(guides: dict[str, float]) -> list[float]:
        decoding = guided(guides) if guides else {"strategy": "sample"}
        answer = tiny.post(prompt=tiny.ids(TEXT), decoding=decoding, **GREEDY)
        found: list[float] = answer["choices"][0]["logprobs"]["token_logprobs"]
        return found

    asked = [*WEIGHTS, {}] * 2  # the second time beside what the first has left in the prefix cache
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, asked))
    for guides, logprobs in zip(asked, answers, strict=True):
        _, want = reference.greedy(tiny.ids(TEXT), guides, 10)
        assert logprobs == pytest.approx(want, abs=CLOSE)


def test_presets_are_their_formulas_at_every_position_of_a_prompt(tiny: Tiny) -> None:
    """weak-to-strong [GenARM], realignment [DeRa], proxy tuning and contrastive decoding, written out."""
    ids = tiny.ids(TEXT)
    models = tiny.models
    pi, weak, tuned, expert = (
        logits(models[name], ids, 372).log_softmax(-1) for name in ("policy", "llama", "tuned", "window")
    )
    formulas = {
        "weak_to_strong": ({"weak": 1.0}, pi + weak),
        "realign": ({"tuned": 1.7}, -0.7 * pi + 1.7 * tuned),
        "proxy": ({"expert": 1.0}, pi + expert - weak),
        "contrastive": ({"weak": -0.5}, pi - 0.5 * weak),
    }
    for name, (guides, law) in formulas.items():
        answer = choice(tiny, guides, ids, max_tokens=0, echo=True, logprobs=1)
        first, *others = answer["logprobs"]["token_logprobs"]
        assert first is None
        want = [float(law.log_softmax(-1)[i, token]) for i, token in enumerate(ids[1:])]
        assert others == pytest.approx(want, abs=CLOSE), name


def test_logprobs_are_the_guided_laws(tiny: Tiny, reference: Reference) -> None:
    answer = choice(tiny, ONE, max_tokens=1, temperature=0.3, seed=1, logprobs=5)
    [top] = answer["logprobs"]["top_logprobs"]
    want = reference.law(tiny.ids(TEXT), ONE)[-1].sort(descending=True).values[:5].tolist()
    assert sorted(top.values(), reverse=True)[:5] == pytest.approx(want, abs=CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("strategy", ["reward_guided", "best_of_n"])
def test_divergence_is_that_of_the_returned_tokens(
    tiny: Tiny, reference: Reference, strategy: str, temperature: float
) -> None:
    """With top_k 1 the tokens are known; what truncates is left out of both laws."""
    prompt = tiny.ids(TEXT)
    best = {"n": 4, "reward": "default"} if strategy == "best_of_n" else {}
    tokens, _ = reference.greedy(prompt, ONE, 10)
    decoding = guided(ONE, strategy, return_kl=True, **best)
    answer = tiny.post(
        prompt=prompt, temperature=temperature, top_k=1, max_tokens=10, ignore_eos=True, decoding=decoding
    )
    [result] = answer["decoding"]["results"]
    scaled = {name: weight / temperature for name, weight in ONE.items()}
    own = math.fsum(reference.logprobs(prompt, tokens, {}, policy=1 / temperature))
    tilted = math.fsum(reference.logprobs(prompt, tokens, scaled, policy=1 / temperature))
    assert result["policy_logprob"] == pytest.approx(own, abs=1e-3)
    bound, name = (best_of_n_kl(4), "order_statistic_bound+log_ratio") if best else (0.0, "log_ratio")
    assert result["kl"] == {"nats": pytest.approx(bound + tilted - own, abs=1e-3), "estimator": name}
    assert answer["choices"][0]["logprobs"] is None


def test_the_atomic_estimate_adds_to_the_ratio(tiny: Tiny) -> None:
    decoding = guided({"weak": 1.0}, "best_of_n", n=4, return_kl=True, reward="default")
    answer = tiny.post(prompt=TEXT, max_tokens=4, seed=1, logprobs=0, decoding=decoding)
    [result] = answer["decoding"]["results"]
    own = math.fsum(answer["choices"][0]["logprobs"]["token_logprobs"])
    nats = atomic_kl(4, own) + own - result["policy_logprob"]
    assert result["kl"] == {"nats": pytest.approx(nats, abs=1e-6), "estimator": "atomic+log_ratio"}


def test_a_guide_is_a_reward_of_whole_completions(tiny: Tiny, reference: Reference) -> None:
    prompt, fox = tiny.ids("The quick"), tiny.ids(" fox")
    assert len(fox) == 1

    def want(tokens: list[int]) -> dict[str, Any]:
        def total(name: str) -> float:
            return math.fsum(Reference(tiny.models[name], {}).logprobs(prompt, tokens, {}))

        return {
            "likely": pytest.approx(total("llama"), abs=1e-3),
            "implied": pytest.approx(total("tuned") - total("policy"), abs=1e-3),
        }

    completions = [" fox jumps over", " dog.", " fox"]
    both = {"likely": 1.0, "implied": 1.0}
    answer = tiny.post("/v1/rewards", prompt="The quick", completions=completions, reward=both)
    assert [row["rewards"] for row in answer["data"]] == [want(tiny.ids(text)) for text in completions]
    ended = tiny.post("/v1/rewards", prompt="The quick", completions=[" fox"], reward=both, ended=True)
    assert ended["data"][0]["rewards"] == want([*fox, 1])
    empty = tiny.post("/v1/rewards", prompt="The quick", completions=[""], reward=both)
    assert empty["data"][0]["rewards"] == {"likely": 0.0, "implied": 0.0}

    tokens, _ = reference.greedy(prompt, ONE, 6)
    decoding = guided(ONE, "best_of_n", n=2, reward=both)
    best = tiny.post(prompt=prompt, top_k=1, max_tokens=6, ignore_eos=True, decoding=decoding)
    assert best["decoding"]["results"][0]["rewards"] == want(tokens)


def test_weights_of_zero_are_the_plain_policy(tiny: Tiny) -> None:
    ask: dict[str, Any] = {"prompt": TEXT, "max_tokens": 12, "seed": 4, "logprobs": 1}
    plain = tiny.post(**ask)
    assert tiny.post(**ask, decoding=guided(dict.fromkeys(ONE, 0.0), "sample"))["choices"] == plain["choices"]
    assert tiny.post(**ask, decoding=guided(ONE, "sample"))["choices"] != plain["choices"]


def test_a_seed_decides_and_every_strategy_is_guided_alike(tiny: Tiny) -> None:
    def texts(seed: int, strategy: str = "reward_guided", n: int = 3, **more: Any) -> list[str]:
        answer = tiny.post(prompt=TEXT, max_tokens=16, seed=seed, n=n, decoding=guided(ONE, strategy, **more))
        return [c["text"] for c in answer["choices"]]

    assert texts(5) == texts(5) == texts(5, "sample")
    assert texts(5) != texts(6)
    assert texts(5, n=1) == texts(5, "best_of_n", n=1, reward="default", **{"select": {"by": "argmax"}})[:1]


def test_a_stream_is_the_answer(tiny: Tiny) -> None:
    body: dict[str, Any] = {"prompt": TEXT, "max_tokens": 16, "seed": 3, "decoding": guided(ONE, return_kl=True)}
    whole = tiny.post(**body)
    lines = tiny.client.post("/v1/completions", json={**body, "stream": True}).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert len(chunks) > 3
    assert "".join(c["choices"][0]["text"] for c in chunks if c["choices"]) == whole["choices"][0]["text"]
    assert chunks[-1]["decoding"]["results"][0]["kl"] == whole["decoding"]["results"][0]["kl"]


@pytest.mark.parametrize("weight", [-100.0, -1.0, 1.0, 100.0])
@pytest.mark.parametrize("guide", LOADED.split(", "))
def test_what_a_grammar_masks_stays_masked(tiny: Tiny, guide: str, weight: float) -> None:
    asked: dict[str, Any] = {"max_tokens": 12, "seed": 1, "logprobs": 1}
    answer = choice(tiny, {guide: weight}, regex="[0-9]{3}-[a-f]{2}", **asked)
    assert re.fullmatch("[0-9]{3}-[a-f]{2}", answer["text"])
    assert all(math.isfinite(p) for p in answer["logprobs"]["token_logprobs"])
    if weight == 1.0:
        schema = {"enum": ["fox", "dog"]}
        answer = choice(
            tiny, {guide: weight}, response_format={"type": "json_schema", "json_schema": {"schema": schema}}, **asked
        )
        assert json.loads(answer["text"]) in schema["enum"]


def test_biases_and_penalties_are_done_to_the_guided_law(tiny: Tiny, reference: Reference) -> None:
    prompt, seen = tiny.ids(TEXT), list[int]()
    fox = tiny.ids(" fox")[0]
    banned, second = reference.law(prompt, ONE)[-1].topk(2).indices.tolist()
    for _ in range(8):
        row = reference.law(prompt + seen, ONE)[-1]
        row[banned] -= 100
        row[list(set(seen))] -= 1.5
        seen.append(int(row.argmax()))
    assert seen[0] == second
    want = reference.logprobs(prompt, seen, ONE)
    answer = choice(tiny, ONE, prompt, **{**GREEDY, "max_tokens": 8}, logit_bias={banned: -100}, presence_penalty=1.5)
    assert answer["logprobs"]["token_logprobs"] == pytest.approx(want, abs=CLOSE)
    assert choice(tiny, ONE, max_tokens=3, logit_bias={fox: 100}, ignore_eos=True)["text"] == " fox" * 3


def test_a_stop_string_ends_a_guided_answer(tiny: Tiny) -> None:
    bias = {tiny.ids(word)[0]: 100 for word in (" fox", " dog")}
    answer = choice(tiny, ONE, max_tokens=50, logit_bias=bias, stop=" dog", seed=1)
    assert set(answer["text"].split()) <= {"fox"}
    assert (answer["finish_reason"], answer["stop_reason"]) == ("stop", " dog")


REFUSED: list[tuple[str, str]] = [
    ('{"strategy": "reward_guided"}', "decoding.guides"),
    ('{"strategy": "reward_guided", "guides": {"weak": 0}}', "decoding.guides"),
    ('{"strategy": "reward_guided", "guides": {"nobody": 1}}', "decoding.guides"),
    ('{"strategy": "best_of_n", "guides": {"weak": 101}}', "decoding.guides.weak"),
    ('{"strategy": "sample", "guides": {"weak": 1e999}}', "decoding.guides.weak"),
    ('{"strategy": "sample", "guides": {"weak": -1e308}}', "decoding.guides.weak"),
    ('{"strategy": "sample", "guides": {"head_values": 1}}', "decoding.guides"),
    ('{"strategy": "sample", "guides": {"weak": "much"}}', ""),
    ('{"strategy": "sample", "guides": {"weak": null}}', ""),
    ('{"strategy": "sample", "guides": [1.0]}', ""),
    ('{"strategy": "sample", "guides": {"": 1}}', "decoding.guides"),
]


def test_a_bad_guide_is_named_with_those_that_are_loaded(tiny: Tiny) -> None:
    for decoding, field in REFUSED:
        answer = tiny.client.post("/v1/completions", content=f'{{"prompt": "x", "decoding": {decoding}}}')
        assert answer.status_code == 400, decoding
        error = answer.json()["error"]
        if field:
            assert (error["param"], LOADED in error["message"]) == (field, True), error
        else:
            assert error["param"].startswith("decoding.guides")


def test_odd_but_lawful_guides_leave_the_engine_alive(tiny: Tiny) -> None:
    extreme = dict.fromkeys(LOADED.split(", "), 100.0)
    bodies: list[dict[str, Any]] = [
        {"decoding": guided(extreme)},
        {"decoding": guided(dict.fromkeys(extreme, -100.0))},
        {"decoding": guided({"weak": 5e-324})},
        {"decoding": guided(extreme), "logit_bias": dict.fromkeys(range(300), -100)},
        {"decoding": guided(extreme, "best_of_n", n=3, return_kl=True, reward="implied"), "temperature": 1e-3},
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
    assert tiny.client.post("/v1/completions", json=asked, timeout=30).status_code == 200
    deadline = time.monotonic() + 30
    while tiny.metric("decant_requests_in_flight") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_guides_are_listed(tiny: Tiny) -> None:
    found = tiny.client.get("/v1/strategies").json()
    kinds = {"weak": "arm", "tuned": "implicit", "expert": "implicit", "values": "q_head"}
    assert found["guides"] == {name: {"kind": kind} for name, kind in kinds.items()}
    assert found["rewards"]["likely"]["kind"] == "guide"
