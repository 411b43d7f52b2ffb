"""Bodies that were recorded from real clients as these sent them to this server."""

from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.support.serving import Api, Json, events, ok, refused

USER: Json = {"role": "user", "content": "good"}
REPLY: Json = {"content": "odd", "role": "assistant"}


def test_openai_second_turn_with_the_first_ones_message(api: Api) -> None:
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")
    messages: list[Any] = [USER]
    for turn in ("bad", "odd"):
        reply = client.chat.completions.create(model="toy", messages=messages, seed=1)
        messages += [reply.choices[0].message, {"role": "user", "content": turn}]
    last = client.chat.completions.create(model="toy", messages=messages, seed=1)
    said = [m if isinstance(m, dict) else {"role": "assistant", "content": m.content} for m in messages]
    assert (
        last.choices[0].message.content
        == ok(api.post("chat/completions", {"messages": said, "seed": 1}))["choices"][0]["message"]["content"]
    )


def test_openai_dumped_messages_with_all_their_nulls(api: Api) -> None:
    """`message.model_dump()` of OpenAI's own models, which has every field."""
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")
    reply = client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "good"}])
    dumped: ChatCompletionMessageParam = reply.choices[0].message.model_dump()  # type: ignore[assignment]
    assert {"refusal", "annotations", "audio", "function_call", "tool_calls"} <= set(dumped)
    client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "good"}, dumped])


def test_its_hub_1_2_0_best_of_n_and_step_by_step(api: Api) -> None:
    head = {"model": "toy", "max_completion_tokens": 2, "temperature": 0.8}
    first = ok(api.post("chat/completions", {**head, "messages": [USER], "extra_body": {}}))
    step = first["choices"][0]["message"]["content"] or "odd"
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    again = {**head, "messages": [USER, {"role": "assistant", "content": step}], "extra_body": flags, **flags}
    ok(api.post("chat/completions", again))
    # A stop string asks as much of the policy: the toy has none, and says so of the field that stands in the body.
    stops = {"stop": "\n\n", "include_stop_str_in_output": True}
    body = {**again, **stops, "extra_body": {**flags, "include_stop_str_in_output": True}}
    assert refused(api.post("chat/completions", body), 400)["param"] in stops
    other = {**again, "extra_body": {**flags, "include_stop_str_in_output": True}}
    assert refused(api.post("chat/completions", other), 400)["param"] == "extra_body"


def test_guidellm_0_8_1_asks_for_health_and_then_streams(api: Api) -> None:
    assert api.http.get("/health").status_code == 200
    assert ok(api.http.get("/v1/models"))["data"][0]["id"] == "toy"
    options = {"include_usage": True, "continuous_usage_stats": True}
    head = {"model": "toy", "stream": True, "stream_options": options}
    for path, body in (
        ("completions", {"max_tokens": 3, "prompt": "good bad"}),
        ("chat/completions", {"max_completion_tokens": 3, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "good bad"}]}]}),
    ):  # fmt: skip
        chunks, _ = events(api.post(path, {**head, **body}).text)
        assert all(chunk["usage"] for chunk in chunks)
        assert chunks[-1]["usage"]["prompt_tokens"] == 2
        fixed = {**head, **body, "stop": None, "ignore_eos": True}  # a fixed length is the engine's to give
        assert refused(api.post(path, fixed), 400)["param"] == "ignore_eos"


def test_litellm_1_108_7_asks_of_any_endpoint_and_goes_on(api: Api) -> None:
    """Its router puts a server that answers 404 out of use; 400 and 405 it takes for the caller's mistake."""
    error = refused(api.post("responses", {"model": "toy", "input": "good"}), 400)
    assert error["code"] == "unsupported_endpoint"
    turns = [USER, REPLY, {"role": "user", "content": "bad"}]
    ok(api.post("chat/completions", {"model": "toy", "messages": turns, "extra_body": {}}))
    ok(api.post("chat/completions", {"model": "toy", "messages": [USER], "temperature": 0.5, "n": 2}))
    streamed = {"model": "toy", "messages": turns, "stream": True, "stream_options": {"include_usage": True}}
    assert events(api.post("chat/completions", streamed).text)[0][-1]["usage"]
    ok(api.post("completions", {"model": "toy", "prompt": "good", "max_tokens": 3}))


def test_langchain_openai_1_7_4(api: Api) -> None:
    turns = [{"content": "good", "role": "user"}, REPLY, {"content": "bad", "role": "user"}]
    for stream in (False, True):
        answer = api.post("chat/completions", {"messages": turns, "model": "toy", "stream": stream})
        assert answer.status_code == 200
    decoding = {"strategy": "best_of_n", "n": 4}
    ok(api.post("chat/completions", {
        "messages": turns, "model": "toy", "logprobs": True, "max_completion_tokens": 3, "n": 2, "seed": 1,
        "stream": False, "temperature": 0.5, "top_logprobs": 2, "decoding": decoding,
    }))  # fmt: skip
    completion = {
        "model": "toy", "prompt": ["good"], "frequency_penalty": 0, "logprobs": None, "max_tokens": 4, "n": 1,
        "presence_penalty": 0, "seed": None, "temperature": 0.7, "top_p": 1,
    }  # fmt: skip
    ok(api.post("completions", completion))
    assert events(api.post("completions", {**completion, "prompt": "good", "stream": True}).text)[0]


def test_llama_index_0_14_25(api: Api) -> None:
    turns = [USER, {"role": "assistant", "content": "odd"}, {"role": "user", "content": "bad"}]
    for stream in (False, True):
        head = {"model": "toy", "stream": stream, "temperature": 0.1}
        assert api.post("chat/completions", {**head, "messages": turns}).status_code == 200
        assert api.post("completions", {**head, "prompt": "good", "max_tokens": 4}).status_code == 200


def test_instructor_1_17_0_is_told_by_name_what_is_not_done(api: Api) -> None:
    function = {"name": "A", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}
    tools = {"tools": [{"type": "function", "function": function}]}
    choice = {"tool_choice": {"type": "function", "function": {"name": "A"}}}
    for fields in (tools, {**choice, **tools}):
        param = refused(api.post("chat/completions", {"model": "toy", "messages": [USER], **fields}), 400)["param"]
        assert param == next(iter(fields))
    # Its JSON modes ask for what a policy with a grammar gives; the toy has none.
    schema = {"name": "A", "schema": function["parameters"]}
    for wanted in ({"type": "json_object"}, {"type": "json_schema", "json_schema": schema}):
        error = refused(
            api.post("chat/completions", {"model": "toy", "messages": [USER], "response_format": wanted}), 400
        )
        assert (error["param"], error["message"]) == (
            "response_format",
            "The toy policy does not support 'grammar'.",
        )
