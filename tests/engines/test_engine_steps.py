"""Process reward models on vLLM that score steps, against Transformers' token classification by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import pytest

from evaluation.support.tiny_models import STEP, save_model
from tests.support.engine import ENGINE, Tiny
from tests.support.forked import decant
from tests.support.reference import classify, tokenizer
from tests.support.templates import BEGUN, CLOSED, made

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How much wood?"}]
LOUD = [{"role": "user", "content": f"Say{STEP}or {STEP} now."}]  # tags in the prompt
REWARDS = ("least", "mean", "last", "alone")  # of the model with a chat template; `alone` gets steps' scores alone


def make(root: Path) -> dict[str, Path]:
    """A policy, and token classifiers: with a chat template of its own, and with none."""
    from transformers import LlamaForCausalLM, LlamaForTokenClassification

    return {
        "policy": save_model(root / "policy", 0, LlamaForCausalLM, made(BEGUN, begins=True), heads=2),
        "closes": save_model(
            root / "closes", 1, LlamaForTokenClassification, made(CLOSED, size=320, begins=True), num_labels=1, heads=2
        ),
        "lacks": save_model(
            root / "lacks", 2, LlamaForTokenClassification, made(None, begins=True), num_labels=1, heads=2
        ),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    models = make(tmp_path_factory.mktemp("steps"))

    def reward(name: str, **more: Any) -> dict[str, Any]:
        process = {"kind": "process", "model": str(models[name]), "engine": ENGINE}
        return {**process, "step_tag": STEP, "step_separator": "\n", **more}

    steps_alone = {"pooler_config": {"tok_pooling_type": "STEP"}}
    settings = {
        "policy": {"model": str(models["policy"]), "name": "tiny", "engine": ENGINE},
        "rewards": {
            "least": reward("closes", reduce="min"),
            "mean": reward("closes", reduce="mean"),
            "last": reward("closes"),
            "alone": reward("closes", reduce="min", engine={**ENGINE, **steps_alone}),
            "probable": reward("closes", reduce="product", activation=True),
            "lacks": reward("lacks", reduce="min"),
            "words": reward("lacks", reduce="mean", step_tag="o"),
        },
    }
    with decant(settings) as url, httpx.Client(base_url=url, timeout=300) as client:
        yield Tiny(client, models)


def scores(server: Tiny, model: str, ids: Sequence[int], count: int, tag: str = STEP) -> list[float]:
    """Those at the last `count` tags, which are the completion's."""
    words = tokenizer(server.models[model])
    [step] = words.encode(tag, add_special_tokens=False)
    values = classify(server.models[model], ids, "TokenClassification")[:, 0]
    return [float(v) for v, token in zip(values, ids, strict=True) if token == step][-count:]


def card(server: Tiny, steps: Sequence[str], chat: Sequence[dict[str, str]] = CHAT, count: int = 0) -> list[float]:
    """The scores of the last `count` steps, or of all, as the card of the model with a template would have it."""
    words = tokenizer(server.models["closes"])
    messages = [*chat, {"role": "assistant", "content": "".join(step + STEP for step in steps)}]
    ids = words.apply_chat_template(messages, tokenize=True, return_dict=False)
    return scores(server, "closes", ids, count or len(steps))


def reduced(steps: Sequence[float]) -> dict[str, Any]:
    """By each of `REWARDS`."""
    values = (min(steps), fmean(steps), steps[-1], min(steps))
    return {name: pytest.approx(value, abs=1e-4) for name, value in zip(REWARDS, values, strict=True)}


def test_a_chats_steps_are_scored_and_its_prompts_tags_are_not(server: Tiny) -> None:
    """The template ends each turn with the separator, and that is no step either."""
    completions = {"first\n second\n\nthird": ["first", " second", "third"], "one": ["one"], "one\n": ["one"]}
    weights = dict.fromkeys(REWARDS, 1.0)
    for chat in (CHAT, LOUD):
        answer = server.post("/v1/rewards", messages=chat, completions=list(completions), reward=weights)
        for steps, row in zip(completions.values(), answer["data"], strict=True):
            assert row["rewards"] == reduced(card(server, steps, chat))
    everything = card(server, ["one"], LOUD, count=3)
    assert everything[-1] != pytest.approx(min(everything), abs=1e-2), "this example would tell"


def test_probabilities_of_steps_multiply(server: Tiny) -> None:
    import torch

    answer = server.post("/v1/rewards", messages=CHAT, completions=["a\nb"], reward="probable")
    expected = torch.tensor(card(server, ["a", "b"])).sigmoid().prod()
    assert answer["data"][0]["total"] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("prompt", ["The quick", f"The{STEP} quick {STEP}"])
def test_a_text_and_its_steps(server: Tiny, prompt: str) -> None:
    words = tokenizer(server.models["lacks"])
    ids = words.encode(f"{prompt} fox{STEP}jumps{STEP} over{STEP}")
    answer = server.post("/v1/rewards", prompt=prompt, completions=[" fox\n\njumps\n over"], reward="lacks")
    assert answer["data"][0]["total"] == pytest.approx(min(scores(server, "lacks", ids, 3)), abs=1e-4)


def test_a_tag_that_the_completion_says_is_text(server: Tiny) -> None:
    words = tokenizer(server.models["lacks"])
    [tag] = words.encode(STEP, add_special_tokens=False)
    ids = words.encode("The quick")
    for step in (f" fox {STEP} jumps", f"{STEP}"):
        ids += [*words.encode(step, add_special_tokens=False, split_special_tokens=True), tag]
    answer = server.post("/v1/rewards", prompt="The quick", completions=[f" fox {STEP} jumps\n{STEP}"], reward="lacks")
    assert ids.count(tag) == 2
    assert answer["data"][0]["total"] == pytest.approx(min(scores(server, "lacks", ids, 2)), abs=1e-4)


def test_no_text_is_read_over_the_end_of_a_step(server: Tiny) -> None:
    """The tag is an ordinary letter here: written out, it would be read as one with the letters around it."""
    words = tokenizer(server.models["lacks"])
    [tag] = words.encode("o", add_special_tokens=False)
    ids = words.encode("How much wo")
    at = [len(ids)]
    ids += [tag, *words.encode("od fox", add_special_tokens=False)]
    at.append(len(ids))
    ids.append(tag)
    assert ids != words.encode("How much wooodo fox") != words.encode("How much wood foxo")
    values = classify(server.models["lacks"], ids, "TokenClassification")[:, 0]
    answer = server.post("/v1/rewards", prompt="How", completions=[" much wo\nod fox"], reward="words")
    assert answer["data"][0]["total"] == pytest.approx(float(values[at].mean()), abs=1e-4)


def test_without_a_step_there_is_no_reward(server: Tiny) -> None:
    for body in ({"prompt": f"x{STEP}"}, {"messages": LOUD}):
        answer = server.post("/v1/rewards", **body, completions=["", "\n \n", "a"], reward="least")
        assert [row["rewards"]["least"] is None for row in answer["data"]] == [True, True, False]
        assert [row["total"] is None for row in answer["data"]] == [True, True, False]


def steps_of(text: str) -> list[str]:
    return [step for step in text.split("\n") if step.strip()]


LINED = {"max_tokens": 24, "ignore_eos": True, "temperature": 1.2}  # with a line break now and then


def lines(server: Tiny, **body: Any) -> dict[str, Any]:
    """Of a chat, with line breaks made likely."""
    [line] = server.ids("\n")
    return server.post("/v1/chat/completions", messages=LOUD, **LINED, logit_bias={str(line): 4}, **body)


def test_the_best_of_n_is_the_best_by_its_own_steps(server: Tiny) -> None:
    decoding = {"strategy": "best_of_n", "n": 6, "reward": "least", "return_candidates": True}
    answer = lines(server, seed=3, decoding=decoding)
    candidates = answer["decoding"]["candidates"]
    assert max(len(steps_of(c["text"])) for c in candidates) > 1
    expected = [min(card(server, steps_of(c["text"]), LOUD)) for c in candidates]
    assert [c["rewards"]["least"] for c in candidates] == pytest.approx(expected, abs=1e-4)
    best = candidates[expected.index(max(expected))]["text"]
    assert answer["choices"][0]["message"]["content"] == best


def test_in_blocks_an_unfinished_step_is_scored_as_if_it_ended_there(server: Tiny) -> None:
    halving = {"strategy": "speculative_rejection", "n": 6, "checkpoints": [5, 10], "reward": "mean"}
    candidates = lines(server, seed=4, decoding={**halving, "return_candidates": True})["decoding"]["candidates"]
    assert {c["tokens"] for c in candidates} == {5, 10, 24}
    scored = [c for c in candidates if steps_of(c["text"])]
    assert scored
    for candidate in scored:
        expected = fmean(card(server, steps_of(candidate["text"]), LOUD))
        assert candidate["rewards"]["mean"] == pytest.approx(expected, abs=1e-4)
    blocks = {"strategy": "controlled", "candidates": 3, "block_tokens": 6, "reward": "last"}
    answer = lines(server, seed=4, decoding=blocks)
    text = answer["choices"][0]["message"]["content"]
    expected = card(server, steps_of(text), LOUD)[-1]
    assert answer["decoding"]["results"][0]["rewards"]["last"] == pytest.approx(expected, abs=1e-4)


def test_rollouts_are_scored_by_their_own_steps(server: Tiny) -> None:
    """Every rollout is the one likeliest token, so a quantile is 0 or 1 by the card's own order."""
    rollout = server.post("/v1/chat/completions", messages=LOUD, max_tokens=1, temperature=0)
    reference = card(server, [rollout["choices"][0]["message"]["content"]], LOUD)[0]
    completions = [["first", "second"], ["a good dog"], ["none", "of these", "is right"]]
    ways = {"calibrated": True, "rollouts": 4, "top_k": 1, "max_tokens": 1, "reward": "least"}
    answer = server.post("/v1/rewards", messages=LOUD, completions=["\n".join(c) for c in completions], **ways)
    for steps, row in zip(completions, answer["data"], strict=True):
        assert row["calibrated_rewards"]["least"] == float(min(card(server, steps, LOUD)) > reference)
