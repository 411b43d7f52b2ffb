"""What an engine would be asked for is what the policy's server is asked for."""

from dataclasses import fields, replace
from typing import Any

import pytest

from decoders.core import Grammar, Sampling
from server.engines.remote.completions_body import completions_body
from server.engines.sampling_params import DECANTS_OWN, sampling_params

OTHERWISE: dict[str, Any] = {
    "n": 3,
    "max_tokens": 5,
    "min_tokens": 2,
    "temperature": 0.0,
    "top_p": 0.5,
    "top_k": 4,
    "min_p": 0.1,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "repetition_penalty": 1.5,
    "logit_bias": {3: 2.0},
    "allowed_token_ids": (1, 2),
    "bad_words": ("no",),
    "stop": ("end",),
    "stop_token_ids": (7,),
    "include_stop_str_in_output": True,
    "ignore_eos": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "logprobs": 2,
    "prompt_logprobs": 0,
    "thinking_token_budget": 9,
}


def body(sampling: Sampling, *, stream: bool = False, seed: int | None = None, **more: Any) -> dict[str, Any]:
    params = sampling_params(sampling, sampling.n, seed, pieces=False)
    return completions_body("m", [1, 2], params, stream=stream, **{"cache_salt": None, "priority": 0, **more})


def test_every_parameter_is_listed_here() -> None:
    assert OTHERWISE.keys() == {field.name for field in fields(Sampling)} - DECANTS_OWN


@pytest.mark.parametrize(("name", "value"), OTHERWISE.items())
def test_every_parameter_is_sent(name: str, value: Any) -> None:
    sent = body(replace(Sampling(), **{name: value}))
    assert sent[name] == (list(value) if isinstance(value, tuple) else value)
    assert sent["prompt"] == [1, 2]
    assert sent["return_token_ids"] is True


def test_what_a_server_would_fill_in_is_always_sent() -> None:
    sent = body(Sampling())
    assert {name: sent[name] for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")} == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    assert not {"seed", "stop", "logit_bias", "cache_salt", "priority", "logprobs", "structured_outputs"} & sent.keys()


def test_seeds_salts_and_priorities_are_sent() -> None:
    sent = body(Sampling(), seed=0, cache_salt="s", priority=-1)
    assert (sent["seed"], sent["cache_salt"], sent["priority"]) == (0, "s", -1)


def test_several_samples_are_reported_as_each_ends() -> None:
    assert body(Sampling(n=2, max_tokens=9), stream=True)["stream_interval"] == 10


@pytest.mark.parametrize(
    ("grammar", "sent"),
    [
        (Grammar("json", {"type": "object"}), {"json": {"type": "object"}}),
        (Grammar("json", {}), {"json": {}}),
        (Grammar("json_object"), {"json_object": True}),
        (Grammar("choice", ("a", "b")), {"choice": ["a", "b"]}),
        (Grammar("regex", "a+"), {"regex": "a+"}),
    ],
)
def test_grammars_are_sent(grammar: Grammar, sent: dict[str, Any]) -> None:
    assert body(Sampling(grammar=grammar))["structured_outputs"] == sent
