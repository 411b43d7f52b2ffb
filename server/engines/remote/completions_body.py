"""vLLM's sampling parameters as the body of POST /v1/completions, as vLLM serves it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vllm import SamplingParams

# A server fills these in from the model's own defaults where a request leaves them out, so all of them are sent.
ALWAYS = (
    "n",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
# vLLM's own, sent where they say something.
IF_SET = (
    "seed",
    "stop",
    "stop_token_ids",
    "min_tokens",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "include_stop_str_in_output",
    "ignore_eos",
    "thinking_token_budget",
)
UNLESS_TRUE = ("skip_special_tokens", "spaces_between_special_tokens")


def completions_body(
    model: str, tokens: Sequence[int], params: SamplingParams, *, stream: bool, cache_salt: str | None, priority: int
) -> dict[str, Any]:
    """Return the body that asks for what an engine would be asked for: token ids in, token ids out."""
    body: dict[str, Any] = {"model": model, "prompt": list(tokens), "stream": stream, "return_token_ids": True}
    body |= {name: getattr(params, name) for name in ALWAYS}
    body |= {name: value for name in IF_SET if (value := getattr(params, name))}
    body |= {name: False for name in UNLESS_TRUE if not getattr(params, name)}
    if params.seed is not None:
        body["seed"] = params.seed
    if params.logprobs is not None:
        body |= {"logprobs": params.logprobs, "return_tokens_as_token_ids": True}
    if params.prompt_logprobs is not None:
        body["prompt_logprobs"] = params.prompt_logprobs
    if params.structured_outputs is not None:
        fields = asdict(params.structured_outputs).items()
        body["structured_outputs"] = {k: v for k, v in fields if not k.startswith("_") and v not in (None, False)}
    if stream and params.stream_interval is not None:
        body["stream_interval"] = params.stream_interval
    if cache_salt is not None:
        body["cache_salt"] = cache_salt
    if priority:
        body["priority"] = priority
    return body
