"""The policy on vLLM against Transformers: the same tokens, the same log-probabilities, whatever else is going on."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.engine import Tiny
from tests.support.reference import greedy, teacher_forced, tokenizer
from tests.support.serving import JSON

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
TEXTS = [
    "The quick brown fox",
    "The quick brown fox jumps over the lazy dog. A good answer is",
    "import math\nfor",
    "How much wood would a woodchuck chuck if a woodchuck could chuck wood? " * 5,
    "x",
]


def test_greedy_completions_equal_transformers_in_a_mixed_batch(tiny: Tiny) -> None:
    def ask(text: str) -> dict[str, Any]:
        prompt = tiny.ids(text)
        return tiny.post(prompt=prompt, temperature=0, max_tokens=12, ignore_eos=True, logprobs=0)

    def disturb(seed: int) -> None:
        decoding = {"strategy": "best_of_n", "n": 6}
        tiny.post(prompt=TEXTS[seed % len(TEXTS)], max_tokens=20, seed=seed, decoding=decoding)

    with ThreadPoolExecutor(12) as pool:
        others = [pool.submit(disturb, seed) for seed in range(6)]
        twice = list(pool.map(ask, TEXTS * 2))  # the second time from the prefix cache
        for other in others:
            other.result()
    for text, answer in zip(TEXTS * 2, twice, strict=True):
        prompt = tiny.ids(text)
        _, logprobs = greedy(tiny.models["policy"], prompt, 12)
        assert answer["choices"][0]["logprobs"]["token_logprobs"] == pytest.approx(logprobs, abs=1e-4)


def test_echo_gives_the_prompts_own_logprobs(tiny: Tiny) -> None:
    prompt = tiny.ids(TEXTS[1])
    answer = tiny.post(prompt=prompt, max_tokens=0, echo=True, logprobs=1)
    assert answer["usage"]["completion_tokens"] == 0
    [choice] = answer["choices"]
    first, *others = choice["logprobs"]["token_logprobs"]
    assert first is None
    assert others == pytest.approx(teacher_forced(tiny.models["policy"], prompt), abs=1e-4)
    assert choice["text"] == TEXTS[1]


def test_a_seed_gives_the_same_answer_and_another_seed_another(tiny: Tiny) -> None:
    def ask(seed: int, **more: Any) -> list[str]:
        answer = tiny.post(prompt=TEXTS[0], max_tokens=16, seed=seed, n=3, **more)
        return [c["text"] for c in answer["choices"]]

    assert ask(5) == ask(5)
    assert ask(5) != ask(6)
    assert len(set(ask(5))) == 3
    best = {"decoding": {"strategy": "best_of_n", "n": 4, "select": {"by": "softmax"}}}
    assert ask(5, **best) == ask(5, **best)


def test_long_seeded_prompts_under_load_leave_the_engine_alive(tiny: Tiny) -> None:
    """A seeded prompt that vLLM prefills in chunks kills a CPU engine; no request of ours is prefilled so."""
    words = tiny.ids("How much wood would a woodchuck chuck? " * 200)

    def ask(i: int) -> list[str]:
        answer = tiny.post(prompt=words[i : i + 900 + i], max_tokens=24, seed=i, n=2)
        return [c["text"] for c in answer["choices"]]

    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(ask, range(16)))
        second = list(pool.map(ask, range(16)))
    assert first == second
    assert tiny.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("seed", [0, -(2**63), 2**63 - 1])
def test_the_ends_of_the_seeds_range_are_seeds(tiny: Tiny, seed: int) -> None:
    assert len(tiny.post(prompt="x", max_tokens=2, seed=seed, n=4)["choices"]) == 4


@pytest.mark.parametrize("seed", [-1, -3])
@pytest.mark.parametrize("n", [1, 4])
def test_seeds_that_vllm_reads_as_none_reproduce(tiny: Tiny, seed: int, n: int) -> None:
    """vLLM takes -1 for no seed, and of -3 and four samples the third has that."""
    answers = [tiny.post(prompt="x", max_tokens=12, seed=seed, n=n)["choices"] for _ in range(2)]
    texts = [[choice["text"] for choice in answer] for answer in answers]
    assert texts[0] == texts[1]


def test_neighbouring_seeds_share_no_candidates(tiny: Tiny) -> None:
    def candidates(seed: int) -> set[str]:
        decoding = {"strategy": "best_of_n", "n": 8, "return_candidates": True}
        answer = tiny.post(prompt=TEXTS[0], max_tokens=16, seed=seed, decoding=decoding)
        return {candidate["text"] for candidate in answer["decoding"]["candidates"]}

    drawn = [candidates(seed) for seed in range(4)]
    assert len(set.union(*drawn)) == sum(map(len, drawn)) == 32


def test_a_plain_draw_of_one_has_the_seed_that_vllm_would_have(tiny: Tiny) -> None:
    """The first of two at that seed would be the same in vLLM; here two have seeds of their own."""
    one = tiny.post(prompt=TEXTS[0], max_tokens=16, seed=11)["choices"][0]["text"]
    sample = tiny.post(prompt=TEXTS[0], max_tokens=16, seed=11, decoding={"strategy": "sample"})["choices"][0]["text"]
    two = [c["text"] for c in tiny.post(prompt=TEXTS[0], max_tokens=16, seed=11, n=2)["choices"]]
    assert one == sample
    assert one not in two


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_prompt_that_ends_inside_a_character_leaks_no_text(tiny: Tiny, cut: int, n: int, stream: bool) -> None:
    """Token ids whose last character is not complete; vLLM would answer with the prompt's text, and stop in it."""
    words = tokenizer(tiny.models["policy"])
    ids = tiny.ids("user\nthe quick 🙂")
    prompt, rest = ids[:-cut], ids[-cut:]
    assert words.decode(prompt).endswith("�")
    bias = dict.fromkeys(rest, 100.0) if cut == 1 else {}
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": 4, "seed": 3, "n": n, "stop": ["\n"], "logit_bias": bias}
    if not stream:
        texts = [choice["text"] for choice in tiny.post(**body)["choices"]]
    else:
        texts = [""] * n
        with tiny.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line.removeprefix("data: "))["choices"]:
                        texts[choice["index"]] += choice["text"]
    assert all("quick" not in text for text in texts)
    if cut == 1:
        assert all(text.startswith("🙂") for text in texts)


HOSTILE: list[dict[str, Any]] = [
    {"prompt": [10**6]},
    {"prompt": [-1]},
    {"logit_bias": {"1000000": 1}},
    {"logit_bias": {"-1": 1}},
    {"stop_token_ids": [10**9]},
    {"seed": 2**63},
    {"top_k": 2**40, "max_tokens": 2},
    {"min_tokens": 9, "max_tokens": 3},
    {"max_tokens": 2**30},
    {"logprobs": 20, "max_tokens": 3},
    {"stop": ["", "a"]},
    {"regex": "("},
    {"regex": "\\"},
    {"regex": "(a{1,1000}){1,1000}"},
    {"regex": "a(?=b)"},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nowhere"}}}},
    {"prompt": "\udcff"},
    {"prompt": "x\x00y", "max_tokens": 2},
    {"temperature": 1e-9, "max_tokens": 2},
    {"logit_bias": {str(t): -100 for t in range(300)}, "max_tokens": 2},
    {"repetition_penalty": 1e-9, "max_tokens": 4},
]


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: json.dumps(body)[:60])
def test_no_request_kills_the_engine(tiny: Tiny, body: dict[str, Any]) -> None:
    """Each is answered, honoured or refused with 400; and the next client is served."""
    content = json.dumps({"prompt": "x", **body})
    answer = tiny.client.post("/v1/completions", content=content, headers=JSON)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        error = answer.json()["error"]
        assert (error["param"] or "").split(".")[0] in body or error["message"].startswith("The body is not JSON")
    assert tiny.post(prompt="The quick", max_tokens=2)["choices"][0]["finish_reason"] in ("length", "stop")
    assert tiny.client.get("/healthz").status_code == 200


def test_sampling_parameters_are_honoured(tiny: Tiny) -> None:
    fox = tiny.ids(" fox")[0]
    forced = tiny.post(prompt="The", max_tokens=3, logit_bias={str(fox): 100}, ignore_eos=True)
    assert forced["choices"][0]["text"] == " fox" * 3
    once = tiny.post(prompt="The", max_tokens=3, logit_bias={str(fox): 100}, stop_token_ids=[fox])
    assert once["usage"]["completion_tokens"] == 1
    top = tiny.post(prompt="The quick", max_tokens=8, top_k=1, seed=1, ignore_eos=True, logprobs=0)
    _, logprobs = greedy(tiny.models["policy"], tiny.ids("The quick"), 8)
    assert top["choices"][0]["logprobs"]["token_logprobs"] == pytest.approx(logprobs, abs=1e-4)


def test_a_stop_string_ends_and_is_cut(tiny: Tiny) -> None:
    fox, dog = tiny.ids(" fox")[0], tiny.ids(" dog")[0]
    bias = {str(fox): 100, str(dog): 100}
    answer = tiny.post(prompt="The", max_tokens=50, logit_bias=bias, stop=" dog", seed=1)
    [choice] = answer["choices"]
    assert set(choice["text"].split()) <= {"fox"}
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", " dog")
    kept = tiny.post(prompt="The", max_tokens=50, logit_bias=bias, stop=" dog", seed=1, include_stop_str_in_output=True)
    assert kept["choices"][0]["text"] == choice["text"] + " dog"
