"""What is refused: which status, which field, and that nothing a client sends is a failure of the server."""

import logging
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.http.body import MAX_BODY
from server.loading import toy
from tests.support.serving import Api, Json, ok, refused, serving, until

BEST = {"strategy": "best_of_n"}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy(), max_prompts=4) as api:
        yield api


COMPLETIONS = [
    ({"zip": 1}, "zip", "no such field"),
    ({"": 1}, "", "'': There is no such field"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": "many"}, "n", "valid integer"),
    ({"n": 1.5}, "n", "valid integer"),
    ({"n": 3, "decoding": {**BEST, "n": 2}}, "n", "3 results are asked of 2 candidates"),
    ({"temperature": 0, "n": 2}, "n", "At temperature 0"),
    ({"temperature": 0, "decoding": BEST}, "temperature", "At temperature 0"),
    ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    ({"temperature": [1]}, "temperature", "valid number"),
    ({"temperature": 0.0099}, "temperature", "0, or at least 0.01"),
    ({"temperature": 1e-6}, "temperature", "0, or at least 0.01"),
    ({"temperature": 5e-324}, "temperature", "0, or at least 0.01"),
    ({"temperature": "1"}, "temperature", "valid number"),
    ({"n": "3"}, "n", "valid integer"),
    ({"n": True}, "n", "valid integer"),
    ({"echo": "true"}, "echo", "valid boolean"),
    ({"stream": 1}, "stream", "valid boolean"),
    ({"prompt": ["a"], "max_tokens": "4"}, "max_tokens", "valid integer"),
    ({"prompt": ["1", 1]}, "prompt.1", "valid string"),
    ({"prompt": [1, "1"]}, "prompt.1", "valid integer"),
    ({"min_tokens": 17}, "min_tokens", "min_tokens asks for 17 tokens, and the answer may have 16"),
    ({"logit_bias": {"01": 1}}, "logit_bias.01", "valid integer"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias." + "9" * 5000, "valid integer"),
    ({"decoding": {**BEST, "n": "2"}}, "decoding.n", "valid integer"),
    ({"decoding": {**BEST, "return_kl": 1}}, "decoding.return_kl", "valid boolean"),
    ({"decoding": {**BEST, "reward": {"default": "1"}}}, "decoding.reward.default", "valid number"),
    ({"decoding": {**BEST, "select": {"by": "softmax", "beta": "1"}}}, "decoding.select.beta", "valid number"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"seed": 2**63}, "seed", "less than"),
    ({"stream": 7}, "stream", "valid boolean"),
    ({"stream_options": {}}, "stream_options", "stream: true"),
    ({"stream": True, "stream_options": {"zip": 1}}, "stream_options.zip", "no such field"),
    ({"max_tokens": 0}, "max_tokens", "echo: true"),
    ({"max_tokens": 64}, "max_tokens", "The prompt has 1 tokens and max_tokens asks for 64 more"),
    ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
    ({"logit_bias": {"good": 1}}, "logit_bias.good", "valid integer"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "less than or equal to 100"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "[5] are outside the vocabulary of 5"),
    ({"stop": ["a", 5]}, "stop.1", "valid string"),
    ({"stop": ""}, "stop", "at least 1 character"),
    ({"response_format": {"type": "yaml"}}, "response_format.type", "'json_object'"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema goes with"),
    ({"response_format": {"type": "json_object"}, "regex": "a"}, "regex", "exclude each other"),
    ({"prompt": 5}, "prompt", "a string, a list of strings, a list of token ids"),
    ({"prompt": []}, "prompt", "a string, a list of strings, a list of token ids"),
    ({"prompt": [True]}, "prompt", "a string, a list of strings, a list of token ids"),
    ({"prompt": ["a", 5]}, "prompt.1", "valid string"),
    ({"prompt": [[1], ["a"]]}, "prompt.1.0", "valid integer"),
    ({"prompt": [[1], []]}, "prompt.1", "at least 1 item"),
    ({"prompt": [1, -1]}, "prompt.1", "greater than or equal to 0"),
    ({"prompt": [1, 7]}, "prompt", "[7] are outside the vocabulary of 5"),
    ({"prompt": ""}, "prompt", "empty"),
    ({"prompt": ["a", ""]}, "prompt", "empty"),
    ({"prompt": ["a"] * 5}, "prompt", "5 prompts are over this server's limit of 4"),
    ({"prompt": "odd " * 70}, "prompt",
     "70 tokens; with at least one to come, it must have fewer than this model's context of 64"),
    ({"decoding": "best_of_n"}, "decoding", "JSON object"),
    ({"decoding": {"n": 2}}, "decoding.strategy", "required"),
    ({"decoding": {"strategy": "zip"}}, "decoding.strategy", "'sample', 'reward_guided', 'best_of_n'"),
    ({"decoding": {"strategy": "sample", "n": 2}}, "decoding.n", "no such field"),
    ({"decoding": {**BEST, "n": 257}}, "decoding.n", "less than or equal to 256"),
    ({"decoding": {**BEST, "select": "argmax"}}, "decoding.select", "JSON object"),
    ({"decoding": {**BEST, "select": {"by": "zip"}}}, "decoding.select.by", "'pessimistic'"),
    ({"decoding": {**BEST, "select": {"beta": 1}}}, "decoding.select.by", "required"),
    ({"decoding": {**BEST, "select": {"by": "softmax", "beta": 0}}}, "decoding.select.beta", "equal to 0.000000000001"),
    ({"decoding": {**BEST, "select": {"by": "argmax", "beta": 1}}}, "decoding.select.beta", "no such field"),
    ({"decoding": {"strategy": "particles", "particles": 8, "zip": 1}}, "decoding.zip", "no such field"),
    ({"decoding": {"strategy": "particles", "particles": 0}}, "decoding.particles", "greater than or equal to 1"),
    (
        {"decoding": {**BEST, "proposal": {"strategy": "particles", "particles": 8, "beta": 0}}},
        "decoding.proposal.beta",
        "equal to 0.000000000001",
    ),
    ({"decoding": {**BEST, "reward": "zip"}}, "decoding.reward", "not loaded. Loaded rewards: brevity, default"),
    ({"decoding": {"strategy": "sample", "reward": "zip"}}, "decoding.reward", "brevity, default"),
    ({"decoding": {**BEST, "reward": {"default": 1, "zip": 1}}}, "decoding.reward", "brevity, default"),
    ({"decoding": {**BEST, "reward": 5}}, "decoding.reward", "a valid string or a JSON object"),
    ({"decoding": {**BEST, "reward": {}}}, "decoding.reward", "at least 1 item"),
    ({"decoding": {**BEST, "reward": {"default": "x"}}}, "decoding.reward.default", "valid number"),
    ({"decoding": {**BEST, "reward": {"default": 1e308}}}, "decoding.reward.default", "less than or equal to"),
    ({"decoding": {**BEST, "poisson": True}, "n": 2}, "n", "Poisson"),
    ({"decoding": {**BEST, "stop_at": 1, "select": {"by": "argmin"}}}, "decoding.stop_at", "argmin"),
]  # fmt: skip

CHAT = [
    ({"messages": "good"}, "messages", "valid list"),
    ({"messages": []}, "messages", "at least 1 item"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "required"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "'assistant'"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "valid string or a valid list"),
    ({"messages": [{"role": "user", "content": []}]}, "messages.0.content", "at least 1 item"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type", "'text'"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages", "empty"),
    ({"prompt": "a"}, "prompt", "no such field"),
    ({"top_logprobs": 2}, "top_logprobs", "logprobs: true"),
    ({"top_logprobs": 2, "logprobs": False}, "top_logprobs", "logprobs: true"),
    ({"min_tokens": 64}, "min_tokens", "min_tokens asks for 64 tokens, and the answer may have 63"),
    ({"continue_final_message": True}, "continue_final_message", "must be the assistant's"),
    (
        {
            "messages": [{"role": "assistant", "content": "a"}],
            "continue_final_message": True,
            "add_generation_prompt": True,
        },
        "add_generation_prompt",
        "exclude each other",
    ),
    ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", "different things"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "greater than or equal to 1"),
]

REWARDS = [
    ({"completions": None}, "completions", "required"),
    ({"completions": []}, "completions", "at least 1 item"),
    ({"messages": [{"role": "user", "content": "a"}]}, "prompt", "either prompt or messages"),
    ({"prompt": None}, "prompt", "either prompt or messages"),
    ({"reward": "zip"}, "reward", "brevity, default"),
    ({"stream": True}, "stream", "no such field"),
    ({"temperature": 0.005, "calibrated": True}, "temperature", "0.01"),
    ({"ended": "true"}, "ended", "valid boolean"),
    ({"completions": [1]}, "completions.0", "valid string"),
    ({"continue_final_message": True}, "continue_final_message", "goes with messages"),
    (
        {"prompt": None, "messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
        "messages.0.tool_calls",
        "not supported",
    ),
]  # fmt: skip

START: dict[str, Json] = {
    "completions": {"prompt": "good"},
    "chat/completions": {"messages": [{"role": "user", "content": "good"}]},
    "rewards": {"prompt": "good", "completions": ["bad"]},
}
WRONG = [(path, *row) for path, rows in zip(START, (COMPLETIONS, CHAT, REWARDS), strict=True) for row in rows]


@pytest.mark.parametrize(("path", "change", "param", "words"), WRONG, ids=[f"{w[0]}: {w[1]}"[:80] for w in WRONG])
def test_a_wrong_body_is_a_400_that_names_the_field(api: Api, path: str, change: Json, param: str, words: str) -> None:
    error = refused(api.post(path, {**START[path], **change}), 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("stop", "a"), ("top_p", 0.5), ("min_p", 0.5), ("presence_penalty", 1), ("frequency_penalty", 1), ("regex", "a"),
     ("repetition_penalty", 2), ("stop_token_ids", [1]), ("include_stop_str_in_output", True), ("ignore_eos", True),
     ("min_tokens", 1), ("response_format", {"type": "json_object"})],
)  # fmt: skip
def test_what_this_policy_cannot_do_is_refused_by_the_clients_name(api: Api, name: str, value: object) -> None:
    error = refused(api.post("completions", {"prompt": "good", name: value}), 400)
    assert (error["param"], error["message"]) == (name, f"The toy policy does not support '{name}'.")


def test_nulls_are_fields_that_were_not_sent(api: Api) -> None:
    names = ["model", "decoding", "n", "temperature", "stop", "seed", "stream", "stream_options", "user", "logprobs"]
    assert api.complete(**dict.fromkeys(names))["choices"][0]["finish_reason"] == "stop"
    assert api.chat(**dict.fromkeys([*names, "max_tokens", "response_format"]))["choices"]


def test_the_least_temperature_is_no_failure(api: Api) -> None:
    assert api.complete(temperature=0.01)["choices"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"prompt=good", b'{"prompt": "\xff"}', b'{"prompt": "good", "temperature": NaN}', b"[" * 10_000,
     b'{"prompt": "good", "logit_bias": {"1": -Infinity}}', b'{"prompt": "good", "n": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_body_that_is_not_json_is_a_400(api: Api, body: bytes) -> None:
    error = refused(api.post("completions", body), 400)
    assert error["message"].startswith("The body is not JSON: ")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"good"', b"5"])
def test_a_body_that_is_no_object_is_a_400(api: Api, body: bytes) -> None:
    error = refused(api.post("completions", body), 400)
    assert (error["message"], error["param"]) == ("The body: Input should be a JSON object.", None)


@pytest.mark.parametrize("path", START)
def test_another_model_is_a_404(api: Api, path: str) -> None:
    error = refused(api.post(path, {**START[path], "model": "gpt"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "'toy'" in error["message"]
    ok(api.post(path, {**START[path], "model": "toy"}))
    assert refused(api.http.get("/v1/models/gpt"), 404) == error


def test_a_body_larger_than_any_prompt_is_a_413(api: Api) -> None:
    error = refused(api.post("completions", b" " * (MAX_BODY + 1)), 413)
    assert str(MAX_BODY) in error["message"]


def test_other_paths_and_methods_are_errors_of_the_same_shape(api: Api) -> None:
    assert "/zip" in refused(api.http.post("/zip", json={}), 404)["message"]
    wrong = api.http.get("/v1/completions")
    refused(wrong, 405)
    assert wrong.headers["allow"] == "POST"
    assert set(api.http.post("/v1/models").headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["responses", "embeddings", "audio/speech", "zip"])
def test_an_endpoint_that_is_not_served_is_no_404_which_routers_take_for_a_sick_server(api: Api, path: str) -> None:
    for answer in (api.post(path, {"model": "toy"}), api.http.get(f"/v1/{path}")):
        error = refused(answer, 400)
        assert (error["code"], error["param"]) == ("unsupported_endpoint", None)
        assert f"/v1/{path} is not served here" in error["message"]
        assert "/v1/chat/completions, /v1/completions, /v1/models, /v1/models/{name}, " in error["message"]


def test_a_client_that_leaves_while_it_speaks_is_no_failure(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("uvicorn").addHandler(caplog.handler)  # it does not hand its records on
    with socket.create_connection(("127.0.0.1", api.http.base_url.port or 0)) as peer:
        peer.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: toy\r\nContent-Length: 100\r\n\r\n{")
        until(lambda: len(api.server.server_state.tasks) > 0)
    until(lambda: not api.server.server_state.tasks)
    logging.getLogger("uvicorn").removeHandler(caplog.handler)
    assert caplog.text == ""


scalars = st.none() | st.booleans() | st.integers(-3, 6) | st.text(max_size=4) | st.floats(
    allow_nan=False, allow_infinity=False
)  # fmt: skip
junk = st.recursive(
    scalars, lambda some: st.lists(some, max_size=2) | st.dictionaries(st.text(), some, max_size=2), max_leaves=4
)
words = st.text("god ba", max_size=12)
weights = st.dictionaries(st.sampled_from(["default", "brevity"]), scalars)
reward = junk | st.sampled_from(["default", "brevity", "zip"]) | weights
select = st.fixed_dictionaries(
    {"by": st.sampled_from(["argmax", "argmin", "softmax", "pessimistic", "zip"])},
    optional={"beta": junk | st.floats(min_value=0, allow_infinity=False)},
)
decoding = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["sample", "best_of_n", "zip"])},
    optional={"n": junk | st.integers(1, 6), "select": junk | select, "reward": reward}
    | dict.fromkeys(["poisson", "batch", "stop_at", "calibrated", "rollouts", "return_kl", "zip"], junk),
)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "x"]), "content": junk | words})
fields = st.fixed_dictionaries(
    {},
    optional={
        "prompt": junk | words | st.lists(words | st.integers(0, 5), max_size=3),
        "messages": junk | st.lists(message, max_size=3),
        "completions": junk | st.lists(words),
        "reward": reward,
        "decoding": junk | decoding,
        "n": junk | st.integers(1, 3),
        "temperature": junk | st.floats(0, 2),
        "logit_bias": junk | st.dictionaries(st.sampled_from("0123456"), st.floats(-100, 100)),
    }
    | dict.fromkeys(["top_k", "logprobs", "echo", "max_tokens", "seed", "stream", "stream_options", "stop"], junk),
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(list(START)), body=junk | fields, started=st.booleans())
def test_no_body_is_a_failure_of_the_server(api: Api, path: str, body: object, started: bool) -> None:
    sent = {**START[path], **body} if started and isinstance(body, dict) else body
    response = api.post(path, sent)
    if response.status_code != 200:
        error = refused(response, 400)
        assert error["param"] is not None or not isinstance(sent, dict)
    elif response.headers["content-type"] == "application/json":
        assert response.json()["object"]
    else:
        assert "error" not in response.text
