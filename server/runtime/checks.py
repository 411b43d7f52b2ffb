"""Checks that a request must pass before any work is done for it: each raises an error if it fails.

The names of fields are arguments, because an error names the field as the client wrote it.
"""

from collections.abc import Mapping

from decoders.base import Decoder
from decoders.core import Prompt, Sampling
from decoders.errors import EngineDead, InvalidRequest
from decoders.events import Cost
from decoders.parts.budget import Budget
from server.engines.text import Text
from server.errors import StrategyNotAllowed
from server.runtime.client import Client
from server.settings import ServerSettings


def check_engines(alive: Mapping[str, bool]) -> None:
    """Raise `EngineDead` if one of the engines has died: the server cannot answer requests any more."""
    for engine, up in alive.items():
        if not up:
            raise EngineDead(f"The {engine} engine has died. The server must be restarted.")


def check_strategy(client: Client, strategy: Decoder) -> None:
    """Raise `StrategyNotAllowed` for a strategy, or one whose answers it chooses among, that the key is not for."""
    check_work(client, strategy.strategy, "decoding.strategy")
    proposal: Decoder | None = getattr(strategy, "proposal", None)
    if proposal is not None:
        check_work(client, proposal.strategy, "decoding.proposal.strategy")


def check_work(client: Client, name: str, field: str | None = None) -> None:
    """Raise `StrategyNotAllowed` for work that the key is not for.

    Args:
        name: A strategy, or other work by its name in the metrics.
        field: the field that asks for it, for the error.
    """
    allowed = client.limits.strategies
    if allowed is not None and name not in allowed:
        raise StrategyNotAllowed(f"This key is not for '{name}'. It is for: {', '.join(sorted(allowed))}.", field)


def check_prompt_count(count: int, settings: ServerSettings) -> None:
    """Raise `InvalidRequest` if a request has more prompts than the server accepts."""
    if count > settings.max_prompts:
        raise InvalidRequest(
            f"{count} prompts are over this server's limit of {settings.max_prompts} a request.", "prompt"
        )


def check_length(prompt: Prompt, sampling: Sampling, text: Text, prompt_field: str, length_field: str) -> None:
    """Raise `InvalidRequest` if the prompt is empty, or if prompt and completion do not fit the policy's context.

    Args:
        prompt_field: the field that gave the prompt, for the error.
        length_field: the field that gave `sampling.max_tokens`, for the error.
    """
    limit = text.max_model_len
    length = len(prompt.tokens)
    if length == 0:
        raise InvalidRequest("The prompt is empty.", prompt_field)
    if length >= limit:
        raise InvalidRequest(
            f"The prompt has {length} tokens; with at least one to come, it must have fewer than this model's "
            f"context of {limit}.",
            prompt_field,
        )
    if length + sampling.max_tokens > limit:
        raise InvalidRequest(
            f"The prompt has {length} tokens and {length_field} asks for {sampling.max_tokens} more: together over "
            f"this model's context of {limit}.",
            length_field,
        )


def check_min_tokens(sampling: Sampling) -> None:
    """Raise `InvalidRequest` if the shortest allowed completion is longer than the longest."""
    if sampling.min_tokens > sampling.max_tokens:
        raise InvalidRequest(
            f"min_tokens asks for {sampling.min_tokens} tokens, and the answer may have {sampling.max_tokens}.",
            "min_tokens",
        )


def check_logprobs(sampling: Sampling, text: Text, field: str) -> None:
    """Raise `InvalidRequest` if `field` requests more alternatives for a token than the policy can report."""
    limit = text.max_logprobs
    for name, asked in ((field, sampling.logprobs), ("prompt_logprobs", sampling.prompt_logprobs)):
        if asked is not None and asked > limit:
            raise InvalidRequest(f"{name} is {asked}: this model reports at most {limit}.", name)


def check_priority(priority: int, text: Text) -> None:
    """Raise `InvalidRequest` for a priority where all requests have the same."""
    if priority and not text.priorities:
        raise InvalidRequest(
            "priority: the policy's engine serves requests in their order; with policy.engine.scheduling_policy: "
            "priority in the server's settings it would go by this.",
            "priority",
        )


def check_budget(max_cost: Cost, settings: ServerSettings, field: str) -> None:
    """Raise `InvalidRequest` if a request may draw more candidates or tokens than the server allows."""
    budget = Budget(candidates=settings.max_candidates, tokens=settings.max_generated_tokens)
    budget.check(max_cost, "this server's", field)
