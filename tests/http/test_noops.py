"""Fields that are not honoured: values that change nothing are accepted, others are refused by the field's name."""

import pytest

from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.chat import ChatBody
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.parsing import parse, plain
from tests.support.serving import MINIMAL, Api, Json, ok, refused

USER = {"role": "user", "content": "good"}
START = {path: MINIMAL[path] for path in ("completions", "chat/completions")}
KNOWN = {"completions": noops.BODY, "chat/completions": noops.CHAT}
WANTS: dict[str, object] = {
    "audio": {"voice": "alloy", "format": "wav"}, "best_of": 3, "function_call": {"name": "f"},
    "functions": [{"name": "f"}], "metadata": "a", "modalities": ["text", "audio"], "moderation": {},
    "parallel_tool_calls": 1, "prediction": {"type": "content", "content": "a"}, "prompt_cache_key": 1,
    "prompt_cache_retention": "24h", "reasoning_effort": "high", "safety_identifier": 1, "service_tier": "flex",
    "store": True, "suffix": "a", "tool_choice": "required", "tools": [{"type": "function"}], "user": 1,
    "verbosity": "low", "web_search_options": {}, "chat_template": "a",
    "chat_template_kwargs": {"enable_thinking": False}, "documents": [{}], "include_reasoning": False,
    "length_penalty": 2, "media_io_kwargs": {"a": 1}, "mm_processor_kwargs": {"a": 1},
    "request_id": 1, "return_tokens_as_token_ids": True,
    "use_beam_search": True, "vllm_xargs": {"a": 1}, "extra_body": {"top_k": 1}, "prompt_cache_options": 1,
    "ec_transfer_params": {}, "kv_transfer_params": {}, "logprob_token_ids": [1],
    "mm_payload": "none", "prompt_embeds": "a", "repetition_detection": {}, "return_mm_kwargs": 1,
    "return_prompt_text": True, "return_token_offsets": True, "routed_experts_prompt_start": 1, "session_id": 1,
    "stream_interval": "a", "watermarking": True,
}  # fmt: skip
"""Of each field a value that asks for something, or is of another type."""
NOTHING: list[tuple[str, object]] = [
    ("best_of", 1), ("best_of", 2), ("tools", []), ("tool_choice", "none"), ("store", False), ("metadata", {"a": "b"}),
    ("metadata", {}), ("service_tier", "auto"), ("service_tier", "default"), ("suffix", ""), ("modalities", ["text"]),
    ("functions", []), ("function_call", "none"), ("parallel_tool_calls", True), ("parallel_tool_calls", False),
    ("user", "me"), ("safety_identifier", "me"), ("prompt_cache_key", "a"), ("extra_body", {}), ("length_penalty", 1.0),
    ("extra_body", {"n": 2, "seed": 1}), ("use_beam_search", False), ("priority", 0), ("bad_words", []),
    ("structured_outputs", {}), ("structured_outputs", {"json": None}), ("stream_options", {"include_usage": True}),
    ("reasoning_effort", "none"), ("include_reasoning", True), ("documents", []), ("verbosity", "medium"),
    ("chat_template_kwargs", {}),
    ("session_id", "a"), ("cache_salt", "a"), ("return_token_ids", False), ("prompt_logprobs", None),
    ("stream_interval", 4), ("truncation_side", "left"), ("watermarking", False),
    ("prompt_cache_options", {"mode": "implicit"}), ("return_mm_kwargs", True), ("routed_experts_prompt_start", 0),
]  # fmt: skip
WANTED_OF_MESSAGES: dict[str, object] = {
    "annotations": [{"type": "url_citation"}], "audio": {"id": "a"}, "function_call": {"name": "f"}, "id": 1,
    "images": [{}], "provider_specific_fields": "a", "refusal": "no", "thinking_blocks": [{}], "type": "image",
    "cache_control": "a",
}  # fmt: skip
WHOLE: Json = {
    "role": "assistant", "content": "odd", "refusal": None, "annotations": [], "audio": None, "function_call": None,
    "tool_calls": [], "reasoning": None, "reasoning_content": "", "images": [], "type": "message", "id": "msg_1",
    "thinking_blocks": [], "provider_specific_fields": {"refusal": None}, "cache_control": {"type": "ephemeral"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path in START for name in KNOWN[path] if name != "echo"],
)
def test_what_would_change_the_answer_is_refused_by_name_and_null_is_not_sent(api: Api, path: str, name: str) -> None:
    error = refused(api.post(path, {**START[path], name: WANTS[name]}), 400)
    assert error["param"] == name
    assert error["message"].startswith(f"'{name}' is not supported: ")
    ok(api.post(path, {**START[path], name: None}))


@pytest.mark.parametrize("path", START)
@pytest.mark.parametrize(("name", "value"), NOTHING)
def test_what_asks_for_nothing_gets_the_answer_it_would_have_without(
    api: Api, path: str, name: str, value: object
) -> None:
    body = {**START[path], "n": 2, "seed": 1}
    assert ok(api.post(path, {**body, name: value}))["choices"] == ok(api.post(path, body))["choices"]


def test_false_is_no_zero_and_one_is_not_true(api: Api) -> None:
    for name, value in [("length_penalty", True), ("use_beam_search", 0), ("store", 0)]:
        assert refused(api.post("completions", {"prompt": "good", name: value}), 400)["param"] == name


def test_a_chat_is_not_repeated(api: Api) -> None:
    ok(api.post("chat/completions", {"messages": [USER], "echo": False}))
    assert refused(api.post("chat/completions", {"messages": [USER], "echo": True}), 400)["param"] == "echo"


def test_an_assistants_whole_message_is_accepted_back(api: Api) -> None:
    bare = [USER, {"role": "assistant", "content": "odd"}, USER]
    answer = ok(api.post("chat/completions", {"messages": [USER, WHOLE, USER], "seed": 1}))
    assert answer["choices"] == ok(api.post("chat/completions", {"messages": bare, "seed": 1}))["choices"]
    scored = {"messages": [USER, WHOLE, USER], "completions": ["bad"]}
    assert ok(api.post("rewards", scored))["data"][0]["total"] == -1


@pytest.mark.parametrize("name", noops.MESSAGE)
def test_what_of_a_message_would_change_the_answer_is_refused_by_its_place(api: Api, name: str) -> None:
    messages = [USER, {"role": "assistant", "content": "odd", name: WANTED_OF_MESSAGES[name]}]
    for path, body in (("chat/completions", {}), ("rewards", {"completions": ["bad"]})):
        error = refused(api.post(path, {"messages": messages, **body}), 400)
        assert error["param"] == f"messages.1.{name}"


def test_parts_of_a_content_may_say_how_they_are_cached(api: Api) -> None:
    part: Json = {"type": "text", "text": "good", "cache_control": {"type": "ephemeral"}, "annotations": None}
    parts = [{"role": "user", "content": [part]}]
    body = {"messages": parts, "seed": 1}
    assert ok(api.post("chat/completions", body))["choices"] == api.chat("good", seed=1)["choices"]
    part["annotations"] = [{}]
    assert refused(api.post("chat/completions", body), 400)["param"] == "messages.0.content.0.annotations"


def test_nulls_inside_objects_are_fields_that_were_not_sent(api: Api) -> None:
    best = {"strategy": "best_of_n", "n": None, "reward": None, "budget": {"tokens": None}, "transform": None}
    body = {"messages": [{**USER, "name": None}], "stream_options": None, "response_format": None}
    ok(api.post("chat/completions", {**body, "decoding": {**best, "select": {"by": "softmax", "beta": None}}}))
    streamed = api.post("chat/completions", {**body, "stream": True, "stream_options": {"include_usage": None}})
    assert streamed.status_code == 200
    missing = refused(api.post("chat/completions", {"messages": [{"role": "user", "content": None}]}), 400)
    assert missing["param"] == "messages.0.content"


def test_the_nulls_of_a_json_schema_mean_something() -> None:
    schema = {"properties": {"a": {"const": None, "minimum": 1.0}}, "default": None}
    body = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema, "strict": None}}}
    for kind, start in ((CompletionsBody, {"prompt": "a"}), (ChatBody, {"messages": [USER]})):
        parsed = parse(kind, {**start, **body})
        assert parsed.response_format is not None
        assert parsed.response_format.json_schema is not None
        assert parsed.response_format.json_schema.schema_ == schema


def test_a_whole_number_is_an_integer_however_it_is_written(api: Api) -> None:
    assert api.complete(n=2.0, seed=1.0)["choices"] == api.complete(n=2, seed=1)["choices"]
    assert plain([1.0, [2.0], {"a": 3.0}, 1e300, 0.5]) == [1, [2], {"a": 3}, 1e300, 0.5]
    assert [type(v) for v in plain([1.0, -0.0, 1e300])] == [int, int, float]
    with pytest.raises(InvalidRequest):
        parse(CompletionsBody, {"prompt": "a", "n": 2.5})


def test_no_log_probabilities_have_no_alternatives(api: Api) -> None:
    assert api.chat(logprobs=False, top_logprobs=0)["choices"][0]["logprobs"] is None
    assert api.chat(top_logprobs=0)["choices"][0]["logprobs"] is None
