"""Rewards that tell what they were given."""

from typing import Any


def calls(completions: list[Any], **_: Any) -> list[float]:
    """Return 10 for an answer that calls weather in Oslo, 5 for another call, 0 without one. Called as TRL calls."""
    worth = []
    for [message] in completions:
        cities = [call["function"]["arguments"].get("city") for call in message.get("tool_calls", ())]
        worth.append(10.0 if cities == ["Oslo"] else 5.0 * len(cities))
    return worth


def length(prompts: list[str], completions: list[str]) -> list[float]:  # noqa: ARG001
    """Return how many characters of a completion it was given."""
    return [float(len(completion)) for completion in completions]


def thoughts(prompts: list[str], completions: list[str]) -> list[float]:  # noqa: ARG001
    """Return 1 for a completion that shows the thoughts."""
    return [float("the weather" in completion) for completion in completions]
