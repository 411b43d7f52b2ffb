"""Guides on a real server: the guided law against Transformers, with all that a request may ask for."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from decoders.maths.logmath import atomic_kl, best_of_n_kl
from tests.support.engine import Tiny
from tests.support.guiding import KINDS, ONE, TEXT, WEIGHTS, choice, guided
from tests.support.reference import Reference, logits, tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
CLOSE = 1e-4
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 10, "ignore_eos": True, "logprobs": 0}


@pytest.fixture(scope="module")
def reference(tiny: Tiny) -> Reference:
    models = tiny.models
    guides = {"weak": models["llama"], "tuned": models["tuned"], "expert": models["window"]}
    references = {"tuned": models["policy"], "expert": models["llama"]}
    return Reference(models["policy"], guides, references, {"values": models["head"]})


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
    ranked = reference.law(tiny.ids(TEXT), ONE)[-1].topk(5)
    words = [tokenizer(tiny.models["policy"]).decode([token]) for token in ranked.indices]
    want = dict(zip(words, ranked.values.tolist(), strict=True))
    want.pop("�", None)  # the text of any half of a character, and of none in particular
    assert len(want) > 1
    assert {word: top[word] for word in want} == pytest.approx(want, abs=CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("strategy", ["reward_guided", "best_of_n"])
def test_divergence_is_that_of_the_returned_tokens(
    tiny: Tiny, reference: Reference, strategy: str, temperature: float
) -> None:
    """The guided law at the request's temperature, the policy's at 1; answers whose text has one reading."""
    prompt = tiny.ids(TEXT)
    best = {"n": 4, "reward": "default"} if strategy == "best_of_n" else {}
    decoding = guided(ONE, strategy, return_kl=True, **best)
    body: dict[str, Any] = {
        "prompt": prompt,
        "temperature": temperature,
        "max_tokens": 3,
        "ignore_eos": True,
        "decoding": decoding,
    }
    read = 0
    for seed in range(40):
        answer = tiny.post(**body, seed=seed)
        text = answer["choices"][0]["text"]
        tokens = tiny.ids(text)
        if len(tokens) != 3 or "�" in text:
            continue
        read += 1
        [result] = answer["decoding"]["results"]
        scaled = {name: weight / temperature for name, weight in ONE.items()}
        own = math.fsum(reference.logprobs(prompt, tokens, {}))
        tilted = math.fsum(reference.logprobs(prompt, tokens, scaled, policy=1 / temperature))
        assert result["policy_logprob"] == pytest.approx(own, abs=1e-3)
        choice_kl, name = 0.0, "log_ratio"
        if best and temperature == 1.0:
            choice_kl, name = atomic_kl(4, tilted), "atomic+log_ratio"
        elif best:
            choice_kl, name = best_of_n_kl(4), "order_statistic_bound+log_ratio"
        nats = pytest.approx(choice_kl + tilted - own, abs=1e-3)
        assert result["kl"] == {"nats": nats, "estimator": name, "reference": "policy"}
        assert answer["choices"][0]["logprobs"] is None
    assert read > 3


@pytest.mark.parametrize("guides", [ONE, {}], ids=["guided", "plain"])
def test_a_greedy_answers_divergence_is_its_surprise(
    tiny: Tiny, reference: Reference, guides: dict[str, float]
) -> None:
    prompt = tiny.ids(TEXT)
    tokens, _ = reference.greedy(prompt, guides, 10)
    decoding = {"strategy": "sample", "guides": guides, "return_kl": True}
    answer = tiny.post(prompt=prompt, temperature=0, max_tokens=10, ignore_eos=True, decoding=decoding)
    surprise = -math.fsum(reference.logprobs(prompt, tokens, {}))
    [result] = answer["decoding"]["results"]
    assert result["kl"] == {
        "nats": pytest.approx(surprise, abs=1e-3),
        "estimator": "log_ratio",
        "reference": "policy",
    }


def test_a_tempered_answer_is_measured_from_the_policy_and_a_truncated_one_names_what_it_is_measured_from(
    tiny: Tiny, reference: Reference
) -> None:
    prompt, read = tiny.ids(TEXT), 0
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": 3, "ignore_eos": True}
    for seed in range(40):
        answer = tiny.post(**body, seed=seed, temperature=0.5, decoding={"strategy": "sample", "return_kl": True})
        text = answer["choices"][0]["text"]
        tokens = tiny.ids(text)
        if len(tokens) != 3 or "�" in text:
            continue
        read += 1
        own = math.fsum(reference.logprobs(prompt, tokens, {}))
        tempered = math.fsum(reference.logprobs(prompt, tokens, {}, policy=2.0))
        nats = pytest.approx(tempered - own, abs=1e-3)
        kl = answer["decoding"]["results"][0]["kl"]
        assert kl == {"nats": nats, "estimator": "log_ratio", "reference": "policy"}
    assert read > 3
    for guides in ({}, ONE):
        decoding = {"strategy": "sample", "return_kl": True, "guides": guides}
        [result] = tiny.post(**body, top_p=0.5, decoding=decoding)["decoding"]["results"]
        sampling = {"nats": 0.0, "estimator": "exact", "reference": "sampling"}
        assert result["kl"] == (None if guides else sampling)


def test_the_atomic_estimate_adds_to_the_ratio(tiny: Tiny) -> None:
    decoding = guided({"weak": 1.0}, "best_of_n", n=4, return_kl=True, reward="default")
    answer = tiny.post(prompt=TEXT, max_tokens=4, seed=1, logprobs=0, decoding=decoding)
    [result] = answer["decoding"]["results"]
    own = math.fsum(answer["choices"][0]["logprobs"]["token_logprobs"])
    nats = atomic_kl(4, own) + own - result["policy_logprob"]
    assert result["kl"] == {
        "nats": pytest.approx(nats, abs=1e-6),
        "estimator": "atomic+log_ratio",
        "reference": "policy",
    }


def test_a_guide_is_a_reward_of_whole_completions(tiny: Tiny, reference: Reference) -> None:
    prompt, fox = tiny.ids("The quick"), tiny.ids(" fox")
    assert len(fox) == 1

    def want(tokens: list[int]) -> Any:
        weak = math.fsum(reference.logprobs(prompt, tokens, {"weak": 1.0}, policy=0.0))
        own = math.fsum(reference.logprobs(prompt, tokens, {}))
        tuned = math.fsum(Reference(tiny.models["tuned"], {}).logprobs(prompt, tokens, {}))
        return pytest.approx({"likely": weak, "implied": tuned - own}, abs=1e-3)

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
    def texts(seed: int, n: int, decoding: dict[str, Any], **more: Any) -> list[str]:
        answer = tiny.post(prompt=TEXT, max_tokens=16, seed=seed, n=n, decoding=decoding, **more)
        return [c["text"] for c in answer["choices"]]

    tilted, best = guided(ONE), guided(ONE, "best_of_n", n=3, reward="default")
    assert texts(5, 3, tilted) == texts(5, 3, tilted) == texts(5, 3, guided(ONE, "sample"))
    assert texts(5, 3, tilted) != texts(6, 3, tilted)
    assert texts(5, 3, best) == texts(5, 3, best) != texts(6, 3, best)
    assert texts(5, 3, best, top_k=1) == texts(5, 1, tilted, temperature=0) * 3


@pytest.mark.parametrize("weight", [-100.0, -1.0, 1.0, 100.0])
@pytest.mark.parametrize("guide", sorted(KINDS))
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
