"""What reward models read, against Transformers' `apply_chat_template` and its plain encoding, by many tokenizers."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import InvalidRequest
from server.engines.rewards.reward_text import RewardText, RewardTokens
from server.engines.text.model_text import ModelText
from server.settings import SettingsError, Template
from tests.support.templates import BEGUN, CLOSED, MARKED, made, made_of_words

CHAT = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "How much wood?"})
ANSWERED = [*CHAT, {"role": "assistant", "content": " A good dog."}]
COMPLETION = " A good dog."


def text(fast: Any) -> ModelText:
    return ModelText(fast, 1024, len(fast))


def chat(policy: Any) -> Prompt:
    return asyncio.run(text(policy).chat([dict(m) for m in CHAT]))


def completed(policy: Any, prompt: str = "How much wood?") -> Prompt:
    return asyncio.run(text(policy).encode(prompt))


def drawn(policy: Any, *, ended: bool = True) -> Candidate:
    return asyncio.run(text(policy).completion(COMPLETION, ended=ended))


def read(
    reward: Any, policy: Any, prompt: Prompt, candidate: Candidate, template: Template | None = None
) -> tuple[RewardTokens, bool]:
    """What is read, and whether it is the policy's ids."""

    async def both() -> tuple[RewardTokens, bool]:
        reading = RewardText("judge", template, text(reward), text(policy))
        if await reading.uses_policy_ids(prompt):
            return await reading.policy_ids(prompt, candidate), True
        return await reading.encode(prompt, candidate.text, located=True), False

    return asyncio.run(both())


def card(reward: Any, messages: list[dict[str, str]] = ANSWERED) -> Tokens:
    """What the model's card would say."""
    ids: list[int] = reward.apply_chat_template(messages, tokenize=True, return_dict=False)
    return tuple(ids)


def encoded(fast: Any, of: str, *, special: bool = True) -> Tokens:
    return tuple(fast.encode(of, add_special_tokens=special))


@pytest.mark.parametrize("template", [MARKED, BEGUN, CLOSED])
@pytest.mark.parametrize("policy_template", [MARKED, BEGUN, CLOSED])
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("size", [384, 320])
def test_a_chat_is_read_as_the_models_card_says(template: str, policy_template: str, begins: bool, size: int) -> None:
    policy, reward = made(policy_template, begins=begins), made(template, size=size, begins=begins)
    got, ids = read(reward, policy, chat(policy), drawn(policy))
    assert got.tokens == card(reward)
    assert not ids
    assert got.tokens.count(0) == (template == BEGUN)
    inside = reward.decode(got.tokens[got.start : got.stop]).strip()
    assert inside == COMPLETION.strip(), "the closing of the turn is not the completion's"


def test_the_number_of_the_card_is_not_the_one_of_the_policys_ids() -> None:
    """What was handed over before: rendered by the policy's template, and open."""
    policy, reward = made(MARKED), made(CLOSED)
    got, _ = read(reward, policy, chat(policy), drawn(policy))
    assert got.tokens != chat(policy).tokens + drawn(policy).tokens


def test_a_completion_of_the_assistants_message_is_one_turn() -> None:
    policy, reward = made(MARKED), made(CLOSED)
    prefix = [*CHAT, {"role": "assistant", "content": "It is"}]
    rendered = policy.apply_chat_template(prefix, tokenize=False, continue_final_message=True)
    prompt = Prompt(encoded(policy, rendered, special=False), rendered, tuple(prefix), continues=True)
    whole = [*CHAT, {"role": "assistant", "content": "It is A good dog."}]
    got, _ = read(reward, policy, prompt, drawn(policy))
    assert got.tokens == card(reward, whole)
    assert reward.decode(got.tokens[got.start : got.stop]) == COMPLETION
    got, _ = read(reward, policy, prompt, drawn(policy), "none")
    assert got.tokens == encoded(reward, "Be kind.\nHow much wood?\nIt is A good dog.")
    got, ids = read(reward, policy, prompt, drawn(policy), "policy")
    assert (got.tokens, ids) == (prompt.tokens + drawn(policy).tokens, True)


@pytest.mark.parametrize("candidate", ["stop", "length", None])
def test_a_turn_is_closed_whether_or_not_the_answer_has_ended(candidate: Any) -> None:
    policy, reward = made(MARKED), made(CLOSED)
    got, _ = read(reward, policy, chat(policy), replace(drawn(policy, ended=False), finish=candidate))
    assert got.tokens == card(reward)


def test_the_policys_rendering_is_the_policys_ids_where_the_tokenizers_are_one() -> None:
    for begins in (False, True):
        policy = made(MARKED, begins=begins)
        for reward in (made(None, begins=begins), made(CLOSED, begins=begins)):
            template: Template = "policy"
            got, ids = read(reward, policy, chat(policy), drawn(policy), template)
            assert ids
            assert got == RewardTokens(
                chat(policy).tokens + drawn(policy).tokens, len(chat(policy).tokens), len(got.tokens)
            )
            assert got.tokens[-1] == 1, "the end that was drawn is read"
            cut = replace(drawn(policy), tokens=(*drawn(policy).tokens, 5), trimmed=True)
            assert read(reward, policy, chat(policy), cut, template)[0].tokens == got.tokens[:-1]


def test_a_model_without_a_template_reads_the_policys_rendering_and_each_special_token_once() -> None:
    policy = made(BEGUN, begins=True)
    lone = made(None, begins=True)
    assert read(lone, policy, chat(policy), drawn(policy)) == read(lone, policy, chat(policy), drawn(policy), "policy")
    foreign = made(None, size=320, begins=True, ends=True)
    got, ids = read(foreign, policy, chat(policy), drawn(policy))
    rendered = policy.apply_chat_template(list(CHAT), tokenize=False, add_generation_prompt=True)
    assert got.tokens == encoded(foreign, rendered.removeprefix("<s>") + COMPLETION)
    assert (got.tokens.count(0), got.tokens.count(1), ids) == (1, 1, False)
    bare = made(None, size=320)
    got, _ = read(bare, policy, chat(policy), drawn(policy))
    assert got.tokens.count(0) == 0, "a tokenizer that adds none gets none"


@pytest.mark.parametrize(
    "reward", [made(None), made(CLOSED), made(BEGUN, begins=True), made(None, size=320, ends=True)]
)
def test_without_a_template_what_was_said_is_read_line_by_line(reward: Any) -> None:
    policy = made(BEGUN, begins=True)
    got, ids = read(reward, policy, chat(policy), drawn(policy), "none")
    assert got.tokens == encoded(reward, "Be kind.\nHow much wood?\n A good dog.")
    assert not ids


@pytest.mark.parametrize("template", ["own", "policy", "none"])
@pytest.mark.parametrize("begins", [False, True])
def test_a_completion_is_text_after_text(template: Template, begins: bool) -> None:
    policy = made(MARKED, begins=begins)
    prompt = completed(policy)
    for other in (made(CLOSED, begins=not begins), made(CLOSED, begins=True, ends=True), made(CLOSED, size=320)):
        got, ids = read(other, policy, prompt, drawn(policy), template)
        assert got.tokens == encoded(other, "How much wood? A good dog.")
        assert not ids
    got, ids = read(made(CLOSED, begins=begins), policy, prompt, drawn(policy), template)
    assert ids
    assert got.tokens == prompt.tokens + drawn(policy).tokens
    assert got.tokens == (*encoded(policy, "How much wood? A good dog."), 1)


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
        got, handed = read(twin, policy, text(policy).given(ids), drawn(policy))
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
    given = text(policy).given(prompt.tokens)
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
    as_ids, _ = read(reward, policy, text(policy).given(prompt.tokens), drawn(policy))
    assert got == as_ids
    adds = encoded(reward, "") == (0,)
    assert got.tokens.count(0) == adds


def test_a_bos_that_the_tokenizer_does_not_add_is_text() -> None:
    policy = made(MARKED)
    prompt = completed(policy, "<s>The")
    assert prompt.tokens == (0, *encoded(policy, "The"))
    assert text(policy).given(prompt.tokens) == prompt


def test_a_template_that_is_not_there_or_refuses_is_told() -> None:
    policy = made(MARKED)
    with pytest.raises(SettingsError, match="'judge' has no chat template: set `template` to policy or none"):
        RewardText("judge", "own", text(made(None)), text(policy))
    refusing = made("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}")
    with pytest.raises(InvalidRequest, match="A reward model cannot read this chat") as caught:
        read(refusing, policy, chat(policy), drawn(policy))
    assert "no system" in str(caught.value)
    assert caught.value.field == "messages"


def test_what_is_read_is_said() -> None:
    policy = made(MARKED)
    said = {
        str(RewardText("judge", None, text(made(CLOSED)), text(policy))),
        str(RewardText("judge", None, text(made(None)), text(policy))),
        str(RewardText("judge", "none", text(made(None, size=320)), text(policy))),
    }
    assert said == {
        "chats by its own chat template; token ids handed over where they are the same",
        "chats by the policy's chat template; token ids handed over where they are the same",
        "chats as plain text; no token ids handed over",
    }
