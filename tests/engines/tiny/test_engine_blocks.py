"""Answers grown block by block on vLLM: the same text, tokens and log-probabilities as in one piece."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.support.engine import Tiny
from tests.support.reference import greedy, tokenizer, transformers

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
TEXTS = ["The quick brown fox", "import math\nfor", "How much wood would a woodchuck chuck? " * 8, "x"]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 23, "ignore_eos": True, "logprobs": 0}


@pytest.fixture(scope="module")
def plain(tiny: Tiny) -> dict[str, Any]:
    """Greedy, of tokens that are whole characters, so that any part of a text can be a stop string."""
    words = tokenizer(tiny.models["policy"])
    odd = [i for i in range(len(words)) if not words.decode([i]).isascii()]
    return {**GREEDY, "logit_bias": dict.fromkeys(odd, -100.0)}


# One candidate each, which at temperature 0 can only be the greedy completion.
WAYS: dict[str, dict[str, Any]] = {
    "controlled": {"strategy": "controlled", "candidates": 1, "block_tokens": 5},
    "token by token": {"strategy": "controlled", "candidates": 1, "block_tokens": 1},
    "steps": {"strategy": "controlled", "candidates": 1, "block_tokens": 9, "block_stop": ["e", "o"]},
    "particles": {"strategy": "particles", "particles": 1, "block_tokens": 4},
    "speculative": {"strategy": "speculative_rejection", "n": 1, "checkpoints": [2, 9]},
    "cascade": {
        "strategy": "cascade",
        "max_tries": 1,
        "accept_threshold": 0,
        "entropy_threshold": 0,
        "min_segment_tokens": 3,
    },
}
ways = pytest.mark.parametrize("decoding", WAYS.values(), ids=WAYS.keys())


def same(have: dict[str, Any], want: dict[str, Any]) -> None:
    """Choices alike in all but the last digits of log-probabilities."""
    assert (have["text"], have["finish_reason"]) == (want["text"], want["finish_reason"])
    assert have.get("stop_reason") == want.get("stop_reason")
    assert have["logprobs"]["tokens"] == want["logprobs"]["tokens"]
    assert have["logprobs"]["token_logprobs"] == pytest.approx(want["logprobs"]["token_logprobs"], abs=1e-4)


@ways
def test_blocks_make_up_the_greedy_completion(tiny: Tiny, plain: dict[str, Any], decoding: dict[str, Any]) -> None:
    def both(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return tiny.post(prompt=text, **plain, decoding=decoding), tiny.post(prompt=text, **plain)

    with ThreadPoolExecutor(4) as pool:
        for blocks, whole in pool.map(both, TEXTS):
            same(blocks["choices"][0], whole["choices"][0])
            assert blocks["usage"]["completion_tokens"] >= 23


@ways
def test_a_guided_policy_goes_block_by_block_too(tiny: Tiny, plain: dict[str, Any], decoding: dict[str, Any]) -> None:
    guides = {"weak": 0.8, "tuned": 1.0}
    whole = tiny.post(prompt=TEXTS[0], **plain, decoding={"strategy": "reward_guided", "guides": guides})
    blocks = tiny.post(prompt=TEXTS[0], **plain, decoding={**decoding, "guides": guides})
    same(blocks["choices"][0], whole["choices"][0])


@ways
@pytest.mark.parametrize("included", [False, True])
def test_stop_strings_that_straddle_blocks(
    tiny: Tiny, plain: dict[str, Any], decoding: dict[str, Any], included: bool
) -> None:
    text = tiny.post(prompt=TEXTS[0], **plain)["choices"][0]["text"]

    def both(at: int) -> tuple[dict[str, Any], dict[str, Any]]:
        body = {**plain, "prompt": TEXTS[0], "stop": [text[at : at + 4]], "include_stop_str_in_output": included}
        return tiny.post(**body, decoding=decoding), tiny.post(**body)

    with ThreadPoolExecutor(8) as pool:
        for blocks, whole in pool.map(both, range(0, len(text) - 4, 5)):
            same(blocks["choices"][0], whole["choices"][0])
            assert whole["choices"][0]["finish_reason"] == "stop"


@ways
def test_a_token_that_ends_an_answer_ends_it_inside_a_block(
    tiny: Tiny, plain: dict[str, Any], decoding: dict[str, Any]
) -> None:
    whole = tiny.post(prompt=TEXTS[1], **plain)["choices"][0]
    ids = tiny.ids(whole["text"])
    for token in {ids[6], ids[11]}:
        body = {**plain, "prompt": TEXTS[1], "stop_token_ids": [token]}
        same(tiny.post(**body, decoding=decoding)["choices"][0], tiny.post(**body)["choices"][0])


@ways
@pytest.mark.parametrize("stop", [None, ["語"], ["\n", "🙂x", "日"]])
def test_characters_split_between_tokens_and_blocks(
    tiny: Tiny, decoding: dict[str, Any], stop: list[str] | None
) -> None:
    """With biases that make parts of these characters likely, among bytes that are none."""
    for text in ("é", "日本語", "🙂🙂"):
        bias = {token: 12.0 + i % 3 for i, token in enumerate(tiny.ids(text * 3))}
        body = {**GREEDY, "prompt": TEXTS[3] + "\n" + text, "logit_bias": bias, "stop": stop}
        blocks, whole = (tiny.post(**b)["choices"][0] for b in ({**body, "decoding": decoding}, body))
        same(blocks, whole)


@ways
@pytest.mark.parametrize("least", [1, 7, 12])
def test_stop_strings_are_looked_for_after_min_tokens(
    tiny: Tiny, plain: dict[str, Any], decoding: dict[str, Any], least: int
) -> None:
    text = tiny.post(prompt=TEXTS[0], **plain)["choices"][0]["text"]
    for stop in ([text[1]], [text[3:5]], [text[2:9], text[4:6]]):
        body = {**plain, "prompt": TEXTS[0], "stop": stop, "min_tokens": least}
        blocks, whole = (tiny.post(**b)["choices"][0] for b in ({**body, "decoding": decoding}, body))
        same(blocks, whole)


@ways
def test_of_two_stop_strings_the_first_to_complete_counts(
    tiny: Tiny, plain: dict[str, Any], decoding: dict[str, Any]
) -> None:
    text = tiny.post(prompt=TEXTS[0], **plain)["choices"][0]["text"]
    for at in range(0, len(text) - 9, 6):
        body = {**plain, "prompt": TEXTS[0], "stop": [text[at : at + 9], text[at + 2 : at + 5]]}
        blocks, whole = (tiny.post(**b)["choices"][0] for b in ({**body, "decoding": decoding}, body))
        same(blocks, whole)


def test_no_candidate_is_lost_where_a_stretch_begins_inside_a_character(tiny: Tiny) -> None:
    """A newline stands in the prompt just before the characters that a stretch may begin inside of."""
    decoding = {"strategy": "speculative_rejection", "n": 4, "checkpoints": [3, 6, 9], "return_candidates": True}

    def ask(seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": "問\n日本語🙂",
            "max_tokens": 16,
            "temperature": 1.2,
            "stop": ["\n"],
            "seed": seed,
        }
        return tiny.post(**body, decoding=decoding)

    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(ask, range(30)):
            ends = [
                candidate["finish_reason"]
                for candidate in answer["decoding"]["candidates"]
                if not candidate.get("aborted")
            ]
            assert len(ends) >= 1
            assert None not in ends


@pytest.mark.parametrize("name", ["controlled", "steps", "cascade"])
def test_streamed_pieces_make_up_the_answer(tiny: Tiny, plain: dict[str, Any], name: str) -> None:
    body = {**plain, "prompt": TEXTS[0], "decoding": WAYS[name], "stop": ["never there"]}
    whole = tiny.post(**body)["choices"][0]
    with tiny.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: {")]
    chunks = [json.loads(line) for line in lines]
    pieces = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert pieces[-1]["finish_reason"] == whole["finish_reason"]
    assert len(pieces) > 2
    assert chunks[-1]["decoding"]["strategy"] == WAYS[name]["strategy"]


SEARCHES: list[dict[str, Any]] = [
    {"strategy": "controlled", "candidates": 3, "block_tokens": 4},
    {"strategy": "controlled", "candidates": 3, "block_tokens": 4, "beams": 2},
    {"strategy": "particles", "particles": 4, "block_tokens": 4, "beta": 0.1},
    {"strategy": "speculative_rejection", "n": 5, "checkpoints": [4, 8]},
    {"strategy": "cascade", "accept_threshold": 0.5, "entropy_threshold": 4.0, "max_tries": 3, "beta": 0.1},
    {"strategy": "rejection", "calibrated": True, "rollouts": 8, "beta": 0.5, "batch": 4},
    {"strategy": "best_of_n", "n": 3, "select": {"by": "vote", "answer": "[a-z]"}},
    {"strategy": "best_of_n", "n": 2, "proposal": {"strategy": "controlled", "candidates": 2, "reward": "default"}},
]


@pytest.mark.parametrize("decoding", SEARCHES, ids=lambda d: d["strategy"])
def test_a_seed_gives_the_same_answer_and_all_is_accounted_for(tiny: Tiny, decoding: dict[str, Any]) -> None:
    def ask(seed: int) -> dict[str, Any]:
        return tiny.post(prompt=TEXTS[0], max_tokens=12, seed=seed, n=2, decoding={**decoding, "reward": "default"})

    one, again, other = ask(3), ask(3), ask(4)
    texts = [[c["text"] for c in answer["choices"]] for answer in (one, again, other)]
    assert texts[0] == texts[1] != texts[2]
    for result in one["decoding"]["results"]:
        assert math.isfinite(result["rewards"]["default"])
    cost = one["decoding"]["cost"]
    assert cost["generated_tokens"] == one["usage"]["completion_tokens"] > cost["returned_tokens"]


def test_a_segment_ends_where_transformers_finds_its_entropy(tiny: Tiny) -> None:
    import torch

    prompt = tiny.ids(TEXTS[0])
    ids = prompt + greedy(tiny.models["policy"], prompt, GREEDY["max_tokens"])[0]
    with torch.no_grad():
        laws = transformers(tiny.models["policy"], "CausalLM")(torch.tensor([ids])).logits[0].log_softmax(-1)
    entropies = [-float((row.exp() * row).sum()) for row in laws[len(prompt) - 1 : len(ids) - 1]]
    ranked = sorted(entropies[1:])  # a segment has a first token whatever its entropy
    gaps = [(b - a, (a + b) / 2) for a, b in pairwise(ranked)]
    threshold = max(gaps)[1]  # as far from any of them as can be
    want = 1 + sum(entropy >= threshold for entropy in entropies[1:])
    decoding = {**WAYS["cascade"], "entropy_threshold": threshold, "min_segment_tokens": 1}
    answer = tiny.post(prompt=prompt, **GREEDY, decoding=decoding)
    assert answer["decoding"]["results"][0]["rounds"] == want > 1
    assert answer["usage"]["completion_tokens"] == GREEDY["max_tokens"]  # nothing is drawn to be thrown away


@pytest.mark.parametrize("reward", ["default", "steps", "tagged", "foreign", "likely", "implied"])
def test_every_kind_of_reward_judges_unfinished_answers(tiny: Tiny, plain: dict[str, Any], reward: str) -> None:
    """The answer has the greatest of the beams' rewards, each as the reward alone scores its text."""
    alphabet = [token for character in "QZ7%" for token in tiny.ids(character)]  # which no merge of the tokenizer joins
    body = {**plain, "temperature": 1, "prompt": TEXTS[0], "seed": 5, "max_tokens": 9, "ignore_eos": True}
    body["logit_bias"] = dict.fromkeys(alphabet, 100.0)
    decoding = {"strategy": "controlled", "candidates": 3, "block_tokens": 4, "beams": 3, "reward": reward}
    answer = tiny.post(**body, decoding={**decoding, "return_candidates": True})
    beams = answer["decoding"]["candidates"]
    [result] = answer["decoding"]["results"]
    assert result["rewards"][reward] == max(beam["rewards"][reward] for beam in beams)
    assert len(beams) == 3
    texts = [beam["text"] for beam in beams]
    assert all(len(tiny.ids(text)) == len(text) == 9 for text in texts)
    alone = tiny.post("/v1/rewards", prompt=TEXTS[0], completions=texts, reward=reward)["data"]
    for beam, row in zip(beams, alone, strict=True):
        assert beam["rewards"][reward] == pytest.approx(row["rewards"][reward], abs=1e-3)
