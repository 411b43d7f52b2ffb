"""Every sampling field of a body reaches `Sampling`, and every field of `Sampling` can be set by a body."""

from dataclasses import fields
from typing import Any

import pytest

from decoders.core import Grammar, Prompt, Sampling
from server.http.schemas.chat import ChatBody, ChatTemplateOptions
from server.http.schemas.common import Addressed, Body, PromptOptions
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.parsing import parse
from server.http.schemas.rewards import RewardsBody
from server.http.schemas.sampling import CompletionSampling, RolloutSampling
from tests.support.sampling import OTHER_VALUES

PROMPT = Prompt((1, 2), "good bad")
MESSAGES = [{"role": "user", "content": "good bad"}]
SCHEMA = {"type": "object"}
# Fields of `Sampling` that no body calls by that name, and what sets each: `guides` are a strategy's.
SET_BY: dict[str, dict[str, Any]] = {
    "grammar": {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    "prompt_logprobs": {"echo": True, "logprobs": 0},
}
# Fields of bodies that say nothing of how the policy is sampled.
NOT_SAMPLING = {
    *Addressed.model_fields,
    *ChatTemplateOptions.model_fields,
    *PromptOptions.model_fields,
    "prompt",
    "messages",
    "decoding",
    "stream_options",
    "tool_choice",
    "parallel_tool_calls",
    "include_reasoning",
    "add_special_tokens",
}
NOT_BY_NAME = {
    "seed",
    "response_format",
    "regex",
    "structured_outputs",
    "echo",
    "max_completion_tokens",
    "top_logprobs",
}


def sent(name: str) -> dict[str, Any]:
    """What a client writes to give a field of `Sampling` its value of `OTHER_VALUES`."""
    value = OTHER_VALUES[name]
    return SET_BY.get(name, {name: list(value) if isinstance(value, tuple) else value})


def completions(**body: Any) -> Sampling:
    return parse(CompletionsBody, {"prompt": "good bad", **body}).sampling(PROMPT, 100)


def chat(**body: Any) -> Sampling:
    return parse(ChatBody, {"messages": MESSAGES, **body}).sampling(PROMPT, 100)


def rewards(**body: Any) -> Sampling:
    scored = {"prompt": "good bad", "completions": ["good"], "calibrated": True}
    return parse(RewardsBody, {**scored, **body}).sampling(PROMPT, 100)


@pytest.mark.parametrize("name", sorted(OTHER_VALUES.keys() - {"guides"}))
def test_a_completions_body_sets_every_field_of_sampling(name: str) -> None:
    made, default = completions(**sent(name)), completions()
    changed = {f.name for f in fields(Sampling) if getattr(made, f.name) != getattr(default, f.name)}
    assert getattr(made, name) == OTHER_VALUES[name]
    assert changed == ({"logprobs", name} if name == "prompt_logprobs" else {name})


@pytest.mark.parametrize("name", sorted(CompletionSampling.model_fields.keys() & OTHER_VALUES.keys()))
def test_a_chat_body_sets_the_same_fields(name: str) -> None:
    assert getattr(chat(**sent(name)), name) == OTHER_VALUES[name]


@pytest.mark.parametrize("name", sorted(RolloutSampling.model_fields.keys() & OTHER_VALUES.keys()))
def test_a_rewards_body_sets_how_its_rollouts_are_drawn(name: str) -> None:
    assert getattr(rewards(**sent(name)), name) == OTHER_VALUES[name]


@pytest.mark.parametrize("body", [CompletionsBody, ChatBody])
def test_a_body_has_no_other_sampling_field(body: type[Body]) -> None:
    """One that is added to a body and not to `Sampling` would be accepted and ignored."""
    assert body.model_fields.keys() - OTHER_VALUES.keys() - NOT_SAMPLING <= NOT_BY_NAME
    assert RolloutSampling.model_fields.keys() - OTHER_VALUES.keys() == {"seed"}


def test_the_fields_that_a_chat_names_otherwise() -> None:
    assert chat(max_tokens=17).max_tokens == chat(max_completion_tokens=17).max_tokens == 17
    assert chat().max_tokens == 98
    assert [chat(logprobs=True, top_logprobs=k).logprobs for k in (0, 3)] == [0, 3]
    assert chat(regex="a+").grammar == completions(regex="a+").grammar == Grammar("regex", "a+")
    assert rewards().max_tokens == 16


@pytest.mark.parametrize("ask", [completions, chat, rewards])
def test_both_spellings_of_all_tokens_are_one(ask: Any) -> None:
    assert ask(top_k=-1) == ask(top_k=0) == ask()
