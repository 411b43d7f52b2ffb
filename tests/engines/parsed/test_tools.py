"""Tools on vLLM: calls are drawn, read, chosen and streamed, by a policy whose law is known."""

import json
from collections import Counter
from typing import Any

import openai
import pytest

from tests.support.engine import Tiny
from tests.support.serving import Json, events, refused

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

USER: Json = {"role": "user", "content": "What is the weather?"}
PARAMETERS: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ZONES: Json = {"type": "object", "properties": {"zone": {"enum": ["CET"]}}, "required": ["zone"]}
WEATHER: Json = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CLOCK: Json = {"type": "function", "function": {"name": "clock", "parameters": ZONES, "strict": True}}
BEST: Json = {"strategy": "best_of_n", "n": 8, "return_candidates": True}
EVERY: list[Json] = [
    {"strategy": "sample"},
    {"strategy": "reward_guided", "guides": {"likely": 0.5}},
    BEST,
    {"strategy": "controlled", "block_tokens": 4},
    {"strategy": "rejection", "beta": 50, "r_max": 10},
    {"strategy": "particles", "particles": 3, "block_tokens": 4},
    {"strategy": "speculative_rejection", "n": 4, "checkpoints": [5]},
    {"strategy": "cascade", "accept_threshold": 1.0},
]
VOTE: Json = {**BEST, "select": {"by": "vote", "answer": {"tool": "call"}}}


def ask(scripted: Tiny, **body: Any) -> Json:
    return scripted.post("/v1/chat/completions", **{"messages": [USER], "tools": [WEATHER, CLOCK], "seed": 1, **body})


def called(message: Json) -> list[tuple[str, Json]]:
    """The calls of a message, by name and arguments."""
    calls = message.get("tool_calls", [])
    assert len({call["id"] for call in calls}) == len(calls)
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def streamed(scripted: Tiny, **body: Any) -> tuple[Json, str]:
    """The message that a stream adds up to, and why it ended."""
    body = {"messages": [USER], "tools": [WEATHER], "seed": 1, "stream": True, **body}
    answer = scripted.client.post("/v1/chat/completions", json=body)
    message: Json = {}
    calls: dict[int, Json] = {}
    finish = ""
    for chunk in events(answer.text)[0]:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for name in ("role", "content", "reasoning"):
                if name in delta:
                    message[name] = message.get(name, "") + delta[name]
            for call in delta.get("tool_calls", ()):
                known = calls.setdefault(call["index"], {"function": {"name": "", "arguments": ""}})
                known.update({name: call[name] for name in ("id", "type") if name in call})
                for name, text in call["function"].items():
                    known["function"][name] += text
            finish = choice["finish_reason"] or finish
    return {**message, **({"tool_calls": list(calls.values())} if calls else {})}, finish


def test_auto_draws_calls_as_often_as_the_policy_makes_them(scripted: Tiny) -> None:
    choices = ask(scripted, n=200)["choices"]
    made = Counter(json.dumps(called(choice["message"])) for choice in choices)
    assert set(made) == {'[["weather", {"city": "Oslo"}]]', '[["weather", {"city": "Paris"}]]', "[]"}
    assert made["[]"] / 200 == pytest.approx(0.25, abs=0.1)
    for choice in choices:
        called_any = bool(called(choice["message"]))
        assert choice["finish_reason"] == ("tool_calls" if called_any else "stop")
        assert choice["message"]["content"] == (None if called_any else "Hello there")


def test_without_a_choice_of_tools_a_call_is_text(scripted: Tiny) -> None:
    contents = [c["message"] for c in ask(scripted, n=20, tool_choice="none")["choices"]]
    assert any("<tool_call>" in message["content"] for message in contents)
    assert not any("tool_calls" in message for message in contents)


@pytest.mark.parametrize("decoding", [{"strategy": "sample"}, BEST, {"strategy": "rejection", "beta": 50, "r_max": 10}])
def test_required_and_named_choices_are_constraints(scripted: Tiny, decoding: Json) -> None:
    [choice] = ask(scripted, tool_choice="required", decoding=decoding)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert called(choice["message"])[0][0] == "weather"
    named = {"type": "function", "function": {"name": "clock"}}
    [choice] = ask(scripted, tool_choice=named, decoding=decoding)["choices"]
    assert called(choice["message"]) == [("clock", {"zone": "CET"})]
    assert choice["finish_reason"] == "stop"  # as OpenAI has it


@pytest.mark.parametrize("decoding", EVERY, ids=[decoding["strategy"] for decoding in EVERY])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_adds_up_to_the_whole_answer(scripted: Tiny, decoding: Json, seed: int) -> None:
    [choice] = ask(scripted, tools=[WEATHER], decoding=decoding, seed=seed)["choices"]
    message, finish = streamed(scripted, decoding=decoding, seed=seed)
    assert finish == choice["finish_reason"]
    assert called(message) == called(choice["message"])
    assert message.get("content") == choice["message"]["content"]
    assert message["reasoning"] == choice["message"]["reasoning"] == "hm, the weather"


def test_a_vote_returns_the_call_that_most_candidates_make(scripted: Tiny) -> None:
    for seed in range(4):
        answer = ask(scripted, decoding=VOTE, seed=seed)
        candidates = answer["decoding"]["candidates"]
        made = Counter(json.dumps(called(candidate)) for candidate in candidates)
        [choice] = answer["choices"]
        assert made[json.dumps(called(choice["message"]))] == max(made.values())
        vote = answer["decoding"]["results"][0]["vote"]
        assert vote["share"] == max(made.values()) / 8
        if called(choice["message"]):
            [winner] = [candidate for candidate in candidates if candidate["chosen"]]
            assert winner["tool_calls"] == choice["message"]["tool_calls"]  # verbatim, with their ids
            assert json.loads(vote["answer"])["name"] == "weather"


def test_a_reward_function_sees_the_calls(scripted: Tiny) -> None:
    answer = ask(scripted, decoding=BEST)
    for candidate in answer["decoding"]["candidates"]:
        expected = {"Oslo": 10.0, "Paris": 5.0}.get(dict(called(candidate)).get("weather", {}).get("city", ""), 0.0)
        assert candidate["rewards"] == {"default": expected}
    assert called(answer["choices"][0]["message"]) == [("weather", {"city": "Oslo"})]
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    scored = scripted.post("/v1/rewards", messages=[USER], tools=[WEATHER], completions=[text, "Hello"])
    assert [row["total"] for row in scored["data"]] == [5.0, 0.0]


def test_an_agents_next_turn_is_rendered_with_the_call_and_its_result(scripted: Tiny) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turns = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ]
    tokens = scripted.post("/tokenize", messages=turns, tools=[WEATHER])["tokens"]
    read = scripted.post("/detokenize", tokens=tokens)["prompt"]
    call_text = "<|assistant|><tool_call>weather Oslo</tool_call>"
    assert read == f"<|tool|>weather\n<|user|>What is the weather?{call_text}<|tool|>rain<|assistant|>"
    assert ask(scripted, messages=turns)["usage"]["prompt_tokens"] > len(tokens)  # of two tools


def test_one_call_where_no_more_are_asked_for(scripted: Tiny) -> None:
    [choice] = ask(scripted, tool_choice="required", parallel_tool_calls=False)["choices"]
    assert len(called(choice["message"])) == 1


def test_a_strategy_that_draws_blocks_refuses_a_choice_that_is_a_grammar(scripted: Tiny) -> None:
    body = {"messages": [USER], "tools": [WEATHER], "tool_choice": "required", "decoding": {"strategy": "controlled"}}
    error = refused(scripted.client.post("/v1/chat/completions", json=body), 400)
    assert error["param"] == "tool_choice"


def test_arguments_of_an_earlier_turn_that_are_no_json_do_not_end_the_chat(scripted: Tiny) -> None:
    """vLLM renders an empty object instead, and so do we for a reward model's template."""
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{"}}
    assert ask(scripted, messages=[USER, {"role": "assistant", "content": "", "tool_calls": [call]}])["choices"]


def test_the_openai_clients_agent_loop(scripted: Tiny) -> None:
    client = openai.OpenAI(base_url=f"{scripted.client.base_url}/v1", api_key="any")
    messages: list[Any] = [USER]
    tools: Any = [WEATHER]
    first = client.chat.completions.create(
        model="scripted", messages=messages, tools=tools, seed=1, extra_body={"decoding": VOTE}
    )
    reply = first.choices[0].message
    assert reply.tool_calls
    messages += [reply, {"role": "tool", "tool_call_id": reply.tool_calls[0].id, "content": "rain"}]
    last = client.chat.completions.create(model="scripted", messages=messages, tools=tools, tool_choice="none", seed=1)
    assert last.choices[0].finish_reason == "stop"
