"""Texts far longer than the context: refused by their beginning, and never read by the event loop's thread."""

import asyncio
import threading
from typing import Any

import pytest

from decoders.errors import InvalidRequest
from server.engines.text import Chat
from server.engines.text.long_texts import CHARACTERS, LONG
from server.engines.text.model_text import ModelText

CONTEXT = 1000
MOST = CHARACTERS * CONTEXT


class Words:
    """A tokenizer of one token a word, which keeps what it was asked, and by which thread."""

    chat_template = "a template"
    eos_token_id = 1

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []

    def __deepcopy__(self, memo: object) -> "Words":
        return self

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.read.append((len(text), threading.get_ident()))
        return [*([2] if add_special_tokens else []), *(3 for _ in text.split())]

    def decode(self, tokens: list[int], **_: Any) -> str:
        self.read.append((len(tokens), threading.get_ident()))
        return "word " * len(tokens)

    def apply_chat_template(self, messages: list[Any], **_: Any) -> str:
        text = "".join(message["content"] for message in messages)
        self.read.append((len(text), threading.get_ident()))
        return text

    @property
    def elsewhere(self) -> bool:
        """Whether all that was long was read in another thread."""
        return all(thread != threading.get_ident() for length, thread in self.read if length >= LONG)


def text(words: Words) -> ModelText:
    return ModelText(words, CONTEXT, 8)


def refusal(field: str, asked: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(asked)
    assert refused.value.field == field
    return str(refused.value)


def test_a_text_is_refused_by_its_beginning() -> None:
    words = Words()
    long = "a word " * 10**6
    assert "7000000 characters, and far more tokens than this model's 1000" in refusal(
        "prompt", text(words).encode(long)
    )
    assert "far more tokens" in refusal("completions", text(words).completion(long, ended=True))
    messages = ({"role": "user", "content": long},)
    assert "far more tokens" in refusal("messages", text(words).chat(Chat(messages)))
    assert max(length for length, _ in words.read) == len(long), "the template reads all"
    assert sorted(length for length, _ in words.read)[-2] == MOST
    assert words.elsewhere


def test_a_long_text_of_few_tokens_is_read_whole() -> None:
    words = Words()
    long = ("a" * 100 + " ") * 300
    assert len(long) > MOST
    assert len(asyncio.run(text(words).encode(long)).tokens) == 301
    assert words.elsewhere


def test_a_text_that_is_to_be_cut_is_read_up_to_a_bound() -> None:
    words = Words()
    whole = asyncio.run(text(words).encode("a " * (MOST // 2), cut=True))
    assert len(whole.tokens) == MOST // 2 + 1
    message = refusal("truncate_prompt_tokens", text(words).encode("a " * MOST, cut=True))
    assert message == f"The prompt has {2 * MOST} characters; at most {MOST} are read to be cut."


def test_many_tokens_are_shown_as_text_beside_the_loop() -> None:
    words = Words()
    prompt = asyncio.run(text(words).given([3] * LONG))
    assert (len(prompt.tokens), prompt.text) == (LONG, "word " * LONG)
    assert words.elsewhere


def test_a_chat_of_many_messages_is_rendered_beside_the_loop() -> None:
    words = Words()
    messages = tuple({"role": "user", "content": ""} for _ in range(LONG))
    asyncio.run(text(words).chat(Chat(messages)))
    assert words.read[0][1] != threading.get_ident()
