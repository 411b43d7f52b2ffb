"""A value other than the default of every field of `Sampling`: whoever adds a field adds one here."""

from dataclasses import fields
from typing import Any

from decoders.core import Grammar, Sampling

OTHER_VALUES: dict[str, Any] = {
    "n": 2, "max_tokens": 17, "min_tokens": 1, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1,
    "presence_penalty": 0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.1, "logit_bias": {3: 1.0},
    "allowed_token_ids": (3, 4), "bad_words": ("odd",),
    "stop": ("end",), "stop_token_ids": (3,), "include_stop_str_in_output": True, "ignore_eos": True,
    "skip_special_tokens": False, "spaces_between_special_tokens": False,
    "logprobs": 0, "prompt_logprobs": 0, "thinking_token_budget": 5,
    "grammar": Grammar("json", {"type": "object"}), "guides": {"kind": 1.0}, "stream": True,
}  # fmt: skip

assert set(OTHER_VALUES) == {field.name for field in fields(Sampling)}
assert all(value != getattr(Sampling(), name) for name, value in OTHER_VALUES.items())
