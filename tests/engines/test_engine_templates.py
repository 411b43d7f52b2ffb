"""Reward models on vLLM against Transformers, by whichever chat template they have, through every route to a reward."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from evaluation.support.tiny_models import save_model
from tests.support.engine import ENGINE, Tiny
from tests.support.forked import decant
from tests.support.reference import classify, greedy, tokenizer
from tests.support.templates import BEGUN, CLOSED, MARKED, made

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How much wood?"}]
OWN = ("equal", "differs", "closes")  # rewards by a chat template of their own
COMPLETIONS = [" A good dog.", " none", "a bad fox\n", ""]


def make(root: Path) -> dict[str, Path]:
    """A policy whose tokenizer and template both write a BOS, and classifiers whose template differs, equals, ..."""
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    tokenizers = {
        "equal": made(BEGUN, begins=True),
        "differs": made(MARKED, begins=True),
        "closes": made("{{ bos_token }}" + CLOSED, size=320, begins=True),
        "lacks": made(None, begins=True),
    }
    return {
        "policy": save_model(root / "policy", 0, LlamaForCausalLM, made(BEGUN, begins=True), heads=2),
        **{
            name: save_model(root / name, seed, LlamaForSequenceClassification, words, num_labels=1, heads=2)
            for seed, (name, words) in enumerate(tokenizers.items(), 1)
        },
    }


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server says."""
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Tiny]:
    models = make(tmp_path_factory.mktemp("templates"))

    def reward(name: str, **more: Any) -> dict[str, Any]:
        return {"kind": "classifier", "model": str(models[name]), "engine": ENGINE, **more}

    settings = {
        "policy": {"model": str(models["policy"]), "name": "tiny", "engine": ENGINE},
        "rewards": {
            **{name: reward(name) for name in (*OWN, "lacks")},
            "handed": reward("differs", template="policy"),
            "plain": reward("differs", template="none"),
            "foreign": reward("closes", template="policy"),
            "brevity": {"kind": "function", "function": "server.demo.brevity:short_sentences"},
        },
    }
    with decant(settings, log) as url, httpx.Client(base_url=url, timeout=300) as client:
        yield Tiny(client, models)


EVERY = dict.fromkeys((*OWN, "lacks", "handed", "plain", "foreign"), 1.0)
MODELS = {"handed": "differs", "plain": "differs", "foreign": "closes"}


def value(server: Tiny, name: str, ids: Sequence[int]) -> float:
    return float(classify(server.models[MODELS.get(name, name)], ids)[0])


def card(server: Tiny, name: str, completion: str, chat: Sequence[dict[str, str]] = CHAT) -> float:
    """The reward as the model's card has it: Transformers from the messages on."""
    words = tokenizer(server.models[name])
    messages = [*chat, {"role": "assistant", "content": completion}]
    return value(server, name, words.apply_chat_template(messages, tokenize=True, return_dict=False))


def rendered(server: Tiny) -> str:
    """The policy's prompt, open for the answer, with the BOS that its template writes."""
    words = tokenizer(server.models["policy"])
    return str(words.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True))


def close(number: float) -> Any:
    return pytest.approx(number, abs=1e-4)


def test_the_start_says_how_each_reward_reads(server: Tiny, log: Path) -> None:
    assert server.models
    handed, text = "token ids handed over where they are the same", "no token ids handed over"
    told = {
        "equal": f"chats by its own chat template; {handed}",
        "differs": f"chats by its own chat template; {handed}",
        "closes": f"chats by its own chat template; {text}",
        "lacks": f"chats by the policy's chat template; {handed}",
        "handed": f"chats by the policy's chat template; {handed}",
        "plain": f"chats as plain text; {handed}",
        "foreign": f"chats by the policy's chat template; {text}",
        "brevity": "chats by the policy's chat template",
    }
    lines = [line for line in log.read_text().splitlines() if line.startswith("loading reward '")]
    assert sorted(lines) == sorted(f"loading reward '{name}': {how}" for name, how in told.items())


def test_the_rewards_endpoint_reads_a_chat_as_each_card_says(server: Tiny) -> None:
    answer = server.post("/v1/rewards", messages=CHAT, completions=COMPLETIONS, reward=EVERY)
    text = rendered(server)
    ids = server.ids(text)
    assert ids.count(0) == 1
    foreign = tokenizer(server.models["closes"])
    for completion, row in zip(COMPLETIONS, answer["data"], strict=True):
        got = row["rewards"]
        for name in OWN:
            assert got[name] == close(card(server, name, completion)), name
        for name in ("lacks", "handed"):
            assert got[name] == close(value(server, name, ids + server.ids(completion))), name
        said = tokenizer(server.models["differs"]).encode(f"Be kind.\nHow much wood?\n{completion}")
        assert got["plain"] == close(value(server, "plain", said))
        assert got["foreign"] == close(value(server, "foreign", foreign.encode(text.removeprefix("<s>") + completion)))
        assert got["differs"] != pytest.approx(got["handed"], abs=1e-3)


def test_the_best_of_n_is_the_best_by_each_card(server: Tiny) -> None:
    decoding = {"strategy": "best_of_n", "n": 6, "return_candidates": True}
    for name in OWN:
        body = {"messages": CHAT, "max_tokens": 8, "seed": 5, "decoding": {**decoding, "reward": name}}
        answer = server.post("/v1/chat/completions", **body)
        candidates = answer["decoding"]["candidates"]
        scores = [card(server, name, c["text"]) for c in candidates]
        assert [c["rewards"][name] for c in candidates] == [close(s) for s in scores]
        assert answer["choices"][0]["message"]["content"] == candidates[scores.index(max(scores))]["text"]


def test_a_model_without_a_template_reads_the_tokens_that_were_drawn(server: Tiny) -> None:
    prompt = server.ids(rendered(server))
    tokens, _ = greedy(server.models["policy"], prompt, 8)
    answer = server.post(
        "/v1/chat/completions",
        messages=CHAT,
        max_tokens=8,
        temperature=0,
        ignore_eos=True,
        decoding={"strategy": "sample", "reward": {"lacks": 1.0, "handed": 1.0}},
    )
    got = answer["decoding"]["results"][0]["rewards"]
    assert got == {name: close(value(server, name, prompt + tokens)) for name in ("lacks", "handed")}


@pytest.mark.parametrize("name", OWN)
def test_in_blocks_a_prefix_is_read_as_an_answer_that_ends_there(server: Tiny, name: str) -> None:
    body: dict[str, Any] = {"messages": CHAT, "max_tokens": 12, "seed": 7, "ignore_eos": True}
    halving: dict[str, Any] = {"strategy": "speculative_rejection", "n": 6, "checkpoints": [3, 6], "keep": 0.5}
    decoding = {**halving, "return_candidates": True, "reward": name}
    candidates = server.post("/v1/chat/completions", **body, decoding=decoding)["decoding"]["candidates"]
    assert {c["tokens"] for c in candidates} == {3, 6, 12}
    for candidate in candidates:
        assert candidate["rewards"][name] == close(card(server, name, candidate["text"]))
    blocks: dict[str, Any] = {"strategy": "controlled", "candidates": 3, "block_tokens": 4, "reward": name}
    answer = server.post("/v1/chat/completions", **body, decoding=blocks)
    text = answer["choices"][0]["message"]["content"]
    assert answer["decoding"]["results"][0]["rewards"][name] == close(card(server, name, text))


@pytest.mark.parametrize("name", OWN)
def test_calibration_compares_what_the_card_says_of_both_sides(server: Tiny, name: str) -> None:
    """Every rollout is the one likeliest token, so a quantile is 0 or 1 by the card's own order."""
    rollout = server.post("/v1/chat/completions", messages=CHAT, max_tokens=1, temperature=0)
    reference = card(server, name, rollout["choices"][0]["message"]["content"])
    ways = {"calibrated": True, "rollouts": 4, "top_k": 1, "max_tokens": 1, "reward": name}
    answer = server.post("/v1/rewards", messages=CHAT, completions=COMPLETIONS, **ways)
    for completion, row in zip(COMPLETIONS, answer["data"], strict=True):
        assert row["calibrated_rewards"][name] == float(card(server, name, completion) > reference)


def test_a_completion_is_text_after_text_whatever_the_template(server: Tiny) -> None:
    completions = COMPLETIONS[:2]
    answer = server.post("/v1/rewards", prompt="How much", completions=completions, reward=EVERY)
    for completion, row in zip(completions, answer["data"], strict=True):
        for name in EVERY:
            ids = tokenizer(server.models[MODELS.get(name, name)]).encode("How much" + completion)
            assert ids.count(0) == 1
            assert row["rewards"][name] == close(value(server, name, ids)), name


def test_a_prompt_of_token_ids_has_the_scores_of_the_same_text(server: Tiny) -> None:
    """Also where the text has its BOS written out; the BOS is read once, as Transformers reads the plain text."""
    scored = {"strategy": "sample", "reward": EVERY}
    body: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "ignore_eos": True, "decoding": scored}
    text = "How much"
    ids = tokenizer(server.models["policy"]).encode(text)
    assert ids[0] == 0
    answers = [server.post(prompt=prompt, **body) for prompt in (text, ids, "<s>" + text)]
    assert {a["usage"]["prompt_tokens"] for a in answers} == {len(ids)}
    assert len({a["choices"][0]["text"] for a in answers}) == 1
    first, *others = [a["decoding"]["results"][0]["rewards"] for a in answers]
    for other in others:
        assert other == {name: close(score) for name, score in first.items()}
    words = tokenizer(server.models["closes"])
    expected = value(server, "closes", words.encode(text + answers[0]["choices"][0]["text"]))
    assert first["closes"] == first["foreign"] == close(expected)
    tokens, _ = greedy(server.models["policy"], ids, 6)
    assert first["equal"] == close(value(server, "equal", ids + tokens))


def test_a_templated_text_is_the_chats_own_tokens(server: Tiny) -> None:
    body: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}
    chat = server.post("/v1/chat/completions", messages=CHAT, **body)
    text = rendered(server)
    scored = {"strategy": "sample", "reward": {"equal": 1.0, "foreign": 1.0}}
    for prompt in (text, server.ids(text)):
        answer = server.post(prompt=prompt, echo=True, decoding=scored, **body)
        assert answer["usage"]["prompt_tokens"] == chat["usage"]["prompt_tokens"]
        completion = chat["choices"][0]["message"]["content"]
        echoed = prompt if isinstance(prompt, str) else text.removeprefix("<s>")  # as sent, or the text of the ids
        assert answer["choices"][0]["text"] == echoed + completion
        got = answer["decoding"]["results"][0]["rewards"]
        tokens, _ = greedy(server.models["policy"], server.ids(text), 6)
        assert got["equal"] == close(value(server, "equal", server.ids(text) + tokens))
        words = tokenizer(server.models["closes"])
        assert got["foreign"] == close(value(server, "foreign", words.encode(text.removeprefix("<s>") + completion)))
