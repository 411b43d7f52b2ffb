"""What each token of a prompt or an answer says, in vocabularies of several kinds and texts of several languages."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from decoders.core import Alternative, Prompt, Sampling, TokenLogprob, Tokens
from evaluation.support.tiny_models import make_tokenizer
from server.engines.text.answer_reader import AnswerReader
from server.engines.text.model_text import ModelText
from server.engines.text.prompt_text import prompt_logprobs_with_text
from server.engines.text.token_text import TokenText
from tests.engines.text.test_answer_reader import ids
from tests.support.languages import TEXTS, lowering, prefix, sentencepiece

pytestmark = pytest.mark.engine  # vLLM's detokenizer
KINDS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: make_tokenizer(384, None),
    "sentencepiece": sentencepiece,
    "prefix": prefix,
}


def made(build: Callable[[], Any]) -> ModelText:
    words = build()
    return ModelText(words, 1024, len(words))


@pytest.fixture(scope="module")
def byte_level() -> ModelText:
    return made(KINDS["bytes"])


def entries(tokens: Tokens, *others: int) -> list[TokenLogprob]:
    return [
        TokenLogprob(t, "", -2.0, top=(*(Alternative(o, "", -1.0) for o in others), Alternative(t, "", -2.0)))
        for t in tokens
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", TEXTS)
def test_texts_and_bytes_of_an_answer_join_to_its_text(kind: str, language: str) -> None:
    text = made(KINDS[kind])
    said = " " + TEXTS[language]
    tokens = tuple(text.tokenizer.encode("x" + said, add_special_tokens=False))
    prompt, answer = tokens[:-1], tokens[-1:]
    for cut in range(1, len(tokens)):
        if text.incomplete(tokens[:cut]):
            continue
        prompt, answer = tokens[:cut], tokens[cut:]
        whole = AnswerReader(text, prompt, Sampling(max_tokens=10**4)).read_prefix(answer).text
        known = TokenText(text, prompt, skip_special=True).with_text(entries(answer))
        assert "".join(e.text for e in known) == whole
        assert b"".join(e.raw for e in known) == whole.encode()
        assert all(e.top == (Alternative(e.token, e.text, -2.0, e.raw),) for e in known)
    assert whole
    assert said.endswith(whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", TEXTS)
def test_texts_of_a_prompt_join_to_it(kind: str, language: str) -> None:
    text = made(KINDS[kind])
    prompt = asyncio.run(text.encode(TEXTS[language]))
    first, *others = prompt.tokens
    known = prompt_logprobs_with_text(text, prompt, entries(tuple(others)))
    rest = "".join(e.text for e in known)
    assert prompt.text.endswith(rest)
    assert len(prompt.text) - len(rest) <= (kind != "prefix")
    as_ids = Prompt(prompt.tokens, text.decode(prompt.tokens))
    rest = "".join(e.text for e in prompt_logprobs_with_text(text, as_ids, entries(tuple(others))))
    assert as_ids.text.endswith(rest)
    assert as_ids.text[: len(as_ids.text) - len(rest)] == text.decode([first]).rstrip("�")


def test_a_prompt_whose_tokens_say_something_else_is_divided_as_its_tokenizer_did() -> None:
    text = made(lowering)
    prompt = asyncio.run(text.encode("A Good  ANSWER is"))
    known = prompt_logprobs_with_text(text, prompt, entries(prompt.tokens[1:]))
    assert [e.text for e in known] == [" Good", "  ANSWER", " is"]
    other = Prompt(prompt.tokens, "A good, answer is  ")  # nobody knows how: as near as can be
    assert [e.text for e in prompt_logprobs_with_text(text, other, entries(other.tokens[1:]))] == [
        "A good",
        ", answer",
        " is  ",
    ]


def test_a_prompt_that_begins_with_its_special_token_has_its_text() -> None:
    text = made(prefix)
    prompt = asyncio.run(text.encode("<s>A good answer"))
    assert prompt.tokens.count(text.tokenizer.bos_token_id) == 1
    known = prompt_logprobs_with_text(text, prompt, entries(prompt.tokens[1:]))
    assert "<s>" + "".join(e.text for e in known) == prompt.text


def test_of_the_tokens_of_a_character_the_last_has_its_text(byte_level: ModelText) -> None:
    known = TokenText(byte_level, ids(byte_level, "go"), skip_special=True).with_text(entries(ids(byte_level, "é🙂")))
    assert [e.text for e in known] == ["", "é", "", "", "", "🙂"]
    assert [e.raw for e in known] == [bytes([b]) for b in "é🙂".encode()]


def test_alternatives_say_what_they_would_have_said_there(byte_level: ModelText) -> None:
    prompt, answer = ids(byte_level, "go"), ids(byte_level, "é!")
    [half] = ids(byte_level, b"\xa9")  # completes an e with an acute accent, and nothing else
    [one] = ids(byte_level, "x")
    end = byte_level.tokenizer.eos_token_id
    known = TokenText(byte_level, prompt, skip_special=True).with_text(entries(answer, half, one, end))
    assert [[(a.text, a.raw) for a in e.top] for e in known] == [
        [("", b"\xa9"), ("x", b"x"), ("</s>", b"</s>"), ("", b"\xc3")],
        [("é", b"\xa9"), ("�x", b"x"), ("</s>", b"</s>"), ("é", b"\xa9")],
        [("", b"\xa9"), ("x", b"x"), ("</s>", b"</s>"), ("!", b"!")],
    ]


@pytest.mark.parametrize(("skip", "said"), [(True, ""), (False, "</s>")])
def test_a_special_token_has_text_where_it_is_read(byte_level: ModelText, skip: bool, said: str) -> None:
    [x] = ids(byte_level, "x")
    known = TokenText(byte_level, (x,), skip_special=skip).with_text(entries((byte_level.tokenizer.eos_token_id, x)))
    assert [(e.text, e.raw) for e in known] == [(said, said.encode()), ("x", b"x")]


def test_a_twin_reads_on_by_itself(byte_level: ModelText) -> None:
    reader = TokenText(byte_level, ids(byte_level, "go"), skip_special=True).read(ids(byte_level, b"\xc3"))
    twin = reader.copy()
    assert reader.next(*ids(byte_level, b"\xa9")) == ("é", b"\xa9")
    assert twin.next(*ids(byte_level, b"\xa8")) == ("è", b"\xa8")


def test_an_answer_completes_the_character_that_its_prompt_ends_in(byte_level: ModelText) -> None:
    data = "go 🙂".encode()
    reader = TokenText(byte_level, ids(byte_level, data[:-1]), skip_special=True)
    assert [e.text for e in reader.with_text(entries(ids(byte_level, data[-1:] + b"!")))] == ["🙂", "!"]
    reader = TokenText(byte_level, ids(byte_level, data[:-1]), skip_special=True)
    assert [e.text for e in reader.with_text(entries(ids(byte_level, "x!")))] == ["x", "!"]
