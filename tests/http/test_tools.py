"""Tools and what else says how a chat is rendered, over HTTP on the toy, which has none: what is refused, and how."""

from typing import Any

import pytest

from server.http.schemas.chat import ChatBody
from server.http.schemas.parsing import parse
from tests.support.serving import Api, Json, ok, refused

USER: Json = {"role": "user", "content": "good"}
TOOL: Json = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "default": None}}}
CALL: Json = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def asked(**fields: Any) -> Json:
    return {"messages": [USER], **fields}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "none"}, "tools"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        ({"documents": [{"title": "a", "text": "b"}]}, "documents"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"thinking_token_budget": 4}, "thinking_token_budget"),
    ],
)
def test_the_toy_says_what_it_cannot_do(api: Api, fields: Json, param: str) -> None:
    error = refused(api.post("chat/completions", asked(**fields)), 400)
    assert error["param"] == param
    assert "The toy policy does not support" in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"tools": [{"type": "custom"}]}, "tools.0.type", "'function'"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name", "required"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice", "'required'"),
        ({"tool_choice": "required"}, "tool_choice", "there are none"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice", "tool 'g'"),
        ({"tools": [TOOL], "tool_choice": "required", "regex": "a"}, "tool_choice", "exclude each other"),
        ({"logprobs": True, "include_reasoning": False}, "include_reasoning", "show the reasoning"),
        ({"reasoning_effort": "great"}, "reasoning_effort", "'high'"),
        ({"thinking_token_budget": -1}, "thinking_token_budget", "greater than or equal to 0"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(api: Api, fields: Json, param: str, message: str) -> None:
    error = refused(api.post("chat/completions", asked(**fields)), 400)
    assert error["param"] == param
    assert message in error["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant"}, "content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "content"),
        ({"role": "user", "content": "good", "tool_calls": [CALL]}, "tool_calls"),
        ({"role": "user", "content": "good", "reasoning": "so"}, "reasoning"),
        ({"role": "user", "content": "good", "tool_call_id": "a"}, "tool_call_id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}, "tool_calls.0.type"),
        ({"role": "assistant", "tool_calls": [{**CALL, "index": "a"}]}, "tool_calls.0.index"),
    ],
)
def test_a_message_has_what_its_role_has(api: Api, message: Json, param: str) -> None:
    for path, more in (("chat/completions", {}), ("rewards", {"completions": ["bad"]})):
        body = {"messages": [USER, message, USER], **more}
        assert refused(api.post(path, body), 400)["param"] == f"messages.1.{param}"


def test_an_agents_turns_reach_the_chat_template_as_they_are() -> None:
    turns: list[Json] = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 0}], "reasoning_content": "so"},
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": [{"type": "text", "text": "1"}]},
    ]
    body = parse(ChatBody, {"messages": turns, "tools": [TOOL]})
    assert [message.plain() for message in body.messages] == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "so"},
        {"role": "tool", "content": "1", "name": "f", "tool_call_id": "a"},
    ]
    assert body.options == {"tools": [TOOL], "tool_choice": "auto"}  # a schema's nulls mean something
    with pytest.raises(Exception, match="text to be continued"):
        parse(ChatBody, {"messages": turns[:2], "continue_final_message": True})


def test_calls_of_tools_may_stand_in_an_earlier_turn(api: Api) -> None:
    """The toy hears contents alone."""
    said = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "bad"}]
    bare = [USER, {"role": "assistant", "content": ""}, {"role": "user", "content": "bad"}]
    answers = [ok(api.post("chat/completions", {"messages": turns, "seed": 1})) for turns in (said, bare)]
    assert answers[0]["choices"] == answers[1]["choices"]


def test_a_vote_by_tools_needs_tools(api: Api) -> None:
    select = {"by": "vote", "answer": {"tool": "call"}}
    error = refused(api.post("chat/completions", asked(decoding={"strategy": "best_of_n", "select": select})), 400)
    assert (error["param"], error["message"]) == ("decoding.select.answer", "A vote by tools needs tools, in a chat.")
    for answer, param in (
        ({"tool": "all"}, "decoding.select.answer.tool"),
        ({"tool": "name", "ignore": ["a"]}, "decoding.select.answer.ignore"),
        ({"tool": "call", "skip": []}, "decoding.select.answer.skip"),
        (3, "decoding.select.answer"),
    ):
        decoding = {"strategy": "best_of_n", "select": {"by": "vote", "answer": answer}}
        assert refused(api.post("chat/completions", asked(decoding=decoding)), 400)["param"] == param
