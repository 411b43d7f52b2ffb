"""Bodies with a wrong field: a 400 that names it."""

from collections.abc import Iterator

import pytest

from server.loading import toy
from tests.support.serving import MINIMAL, Api, Json, refused, serving

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
    ({"stream_options": {"zip": 1}}, "stream_options.zip", "no such field"),
    ({"allowed_token_ids": []}, "allowed_token_ids", "at least 1 item"),
    ({"allowed_token_ids": [1]}, "allowed_token_ids", "toy policy does not support"),
    ({"bad_words": [""]}, "bad_words.0", "at least 1 character"),
    ({"bad_words": ["odd"]}, "bad_words", "toy policy does not support"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "regex and choice exclude"),
    ({"structured_outputs": {"regex": "a"}, "regex": "a"}, "regex", "regex and structured_outputs exclude"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "at least 1 item"),
    ({"structured_outputs": {"regex": "a"}}, "structured_outputs", "toy policy does not support"),
    ({"structured_outputs": {"whitespace_pattern": "a"}}, "structured_outputs.whitespace_pattern", "no such field"),
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
    ({"messages": [{"role": "function", "content": "a"}]}, "messages.0.role", "'tool'"),
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
        "messages.0.tool_calls.0.function",
        "Field required",
    ),
]  # fmt: skip

WRONG = [(path, *row) for path, rows in zip(MINIMAL, (COMPLETIONS, CHAT, REWARDS), strict=True) for row in rows]


@pytest.mark.parametrize(("path", "change", "param", "words"), WRONG, ids=[f"{w[0]}: {w[1]}"[:80] for w in WRONG])
def test_a_wrong_body_is_a_400_that_names_the_field(api: Api, path: str, change: Json, param: str, words: str) -> None:
    error = refused(api.post(path, {**MINIMAL[path], **change}), 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


OWN = {"regex": "grammar", "response_format": "grammar"}  # the policy's names, where the client's differ


@pytest.mark.parametrize(
    ("name", "value"),
    [("stop", "a"), ("top_p", 0.5), ("min_p", 0.5), ("presence_penalty", 1), ("frequency_penalty", 1), ("regex", "a"),
     ("repetition_penalty", 2), ("stop_token_ids", [1]), ("include_stop_str_in_output", True), ("ignore_eos", True),
     ("min_tokens", 1), ("response_format", {"type": "json_object"})],
)  # fmt: skip
def test_what_this_policy_cannot_do_is_refused_by_the_clients_name(api: Api, name: str, value: object) -> None:
    error = refused(api.post("completions", {"prompt": "good", name: value}), 400)
    assert (error["param"], error["message"]) == (name, f"The toy policy does not support '{OWN.get(name, name)}'.")


def test_nulls_are_fields_that_were_not_sent(api: Api) -> None:
    names = ["model", "decoding", "n", "temperature", "stop", "seed", "stream", "stream_options", "user", "logprobs"]
    assert api.complete(**dict.fromkeys(names))["choices"][0]["finish_reason"] == "stop"
    assert api.chat(**dict.fromkeys([*names, "max_tokens", "response_format"]))["choices"]


def test_the_least_temperature_is_no_failure(api: Api) -> None:
    assert api.complete(temperature=0.01)["choices"]
