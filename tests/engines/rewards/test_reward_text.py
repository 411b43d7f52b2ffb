"""What a reward model reads of a chat and of a text, by each template."""

from dataclasses import replace
from typing import Any

import pytest

from decoders.core import Prompt, Tokens
from decoders.errors import InvalidRequest
from server.engines.rewards.reward_text import RewardText, RewardTokens
from server.settings import SettingsError, Template
from tests.support.families.tokenizers import pairs
from tests.support.reward_text import CHAT, COMPLETION, chat, completed, drawn, encoded, read, text
from tests.support.templates import BEGUN, CLOSED, MARKED, made

ANSWERED = [*CHAT, {"role": "assistant", "content": " A good dog."}]


def card(reward: Any, messages: list[dict[str, str]] = ANSWERED) -> Tokens:
    """What the model's card would say."""
    ids: list[int] = reward.apply_chat_template(messages, tokenize=True, return_dict=False)
    return tuple(ids)


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


def test_question_and_answer_are_the_tokenizers_pair() -> None:
    """Also for a text, and never by the policy's token ids: these have no types."""
    policy, reward = made(MARKED, begins=True), pairs("[CLS]", "[SEP]", types=True)
    asked = ((chat(policy), "Be kind.\nHow much wood?"), (completed(policy), "How much wood?"))
    for prompt, question in asked:
        got, ids = read(reward, policy, prompt, drawn(policy), "pair")
        expected = reward(question, " A good dog.")
        assert got.tokens == tuple(expected["input_ids"])
        assert got.second == expected["token_type_ids"].index(1)
        assert not ids
    same, ids = read(policy, policy, completed(policy), drawn(policy), "pair")
    assert (same.tokens, same.second, ids) == (
        tuple(policy("How much wood?", " A good dog.")["input_ids"]),
        None,
        False,
    )


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
