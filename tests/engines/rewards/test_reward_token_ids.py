"""What a reward model reads: special tokens once, and the policy's own ids where they are the same."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from decoders.core import Prompt, Tokens
from server.engines.rewards.reward_text import RewardText
from tests.support.reward_text import chat, completed, drawn, encoded, read, text
from tests.support.templates import BEGUN, CLOSED, MARKED, made, made_of_words


def test_ids_are_handed_over_only_where_they_are_the_same() -> None:
    policy = made(MARKED, begins=True)
    twin = made(CLOSED, begins=True)
    other = made(CLOSED, begins=True)
    other.add_special_tokens({"sep_token": "<sep>"})
    assert not text(other).same_tokens(text(policy))
    adds_none = made(CLOSED)
    assert adds_none.get_vocab() == policy.get_vocab()
    assert not text(adds_none).same_tokens(text(policy))
    assert text(twin).same_tokens(text(policy))
    twin("a text", truncation=True, max_length=1, padding="max_length")
    assert text(twin).same_tokens(text(policy)), "what the last call asked for is no rule"
    # Ids that the text would not be read as: without a BOS, or split otherwise.
    fox = encoded(policy, "The fox", special=False)
    split = (0, *(t for letter in "The fox" for t in encoded(policy, letter, special=False)))
    assert split != (0, *fox)
    for ids in (fox, split):
        got, handed = read(twin, policy, asyncio.run(text(policy).given(ids)), drawn(policy))
        assert not handed
        assert got.tokens == encoded(twin, "The fox A good dog.")


def test_what_a_tokenizer_puts_after_a_text_comes_after_the_completion() -> None:
    policy = made(MARKED, ends=True)
    got, ids = read(made(None, ends=True), policy, completed(policy), drawn(policy))
    assert not ids
    assert got.tokens == encoded(policy, "How much wood? A good dog.")


def test_a_prompt_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search asks for each candidate, of one prompt or of many."""
    policy, asked = made(MARKED), 0
    judge = text(policy)
    reading = RewardText("judge", None, judge, text(policy))
    plainly = judge.read

    async def counted(of: str, *, special: bool) -> Tokens:
        nonlocal asked
        asked += 1
        return await plainly(of, special=special)

    monkeypatch.setattr(judge, "read", counted)
    monkeypatch.setattr("server.engines.rewards.reward_text.CACHED_PROMPTS", 2)
    prompts = [completed(policy, f"The {i}") for i in range(3)]
    assert all(asyncio.run(reading.uses_policy_ids(prompt)) for prompt in (*prompts[:2], *prompts[:2], *prompts))
    assert asked == 3
    assert not asyncio.run(reading.uses_policy_ids(Prompt(prompts[0].tokens, "The other")))


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize(
    "make", [lambda begins: made(BEGUN, begins=begins), lambda begins: made_of_words(begins=begins)]
)
@pytest.mark.parametrize(
    "reward",
    [
        made(None, begins=True),
        made(None),
        made(None, size=320, begins=True),
        made_of_words(),
        made_of_words(begins=True),
    ],
)
def test_a_prompt_of_token_ids_is_read_as_the_same_text(begins: bool, make: Callable[..., Any], reward: Any) -> None:
    policy = make(begins)
    prompt = completed(policy, "a good dog")
    given = asyncio.run(text(policy).given(prompt.tokens))
    assert given == prompt
    assert prompt.tokens.count(0) == begins
    assert read(reward, policy, given, drawn(policy)) == read(reward, policy, prompt, drawn(policy))


@pytest.mark.parametrize("reward", [made(None, begins=True), made(None), made(None, size=320, begins=True)])
def test_a_text_that_begins_with_the_bos_gets_no_second_one(reward: Any) -> None:
    policy = made(BEGUN, begins=True)
    rendered = chat(policy).text
    assert rendered.startswith("<s>")
    prompt = completed(policy, rendered)
    assert prompt == Prompt(chat(policy).tokens, rendered), "templated text is the chat's ids, and its text as sent"
    got, _ = read(reward, policy, prompt, drawn(policy))
    as_ids, _ = read(reward, policy, asyncio.run(text(policy).given(prompt.tokens)), drawn(policy))
    assert got == as_ids
    adds = encoded(reward, "") == (0,)
    assert got.tokens.count(0) == adds


def test_a_bos_that_the_tokenizer_does_not_add_is_text() -> None:
    policy = made(MARKED)
    prompt = completed(policy, "<s>The")
    assert prompt.tokens == (0, *encoded(policy, "The"))
    assert asyncio.run(text(policy).given(prompt.tokens)) == prompt
