"""How a reward function is called: with two lists of texts, or by keywords as TRL's trainers call theirs.

TRL's call has the keywords `prompts`, `completions` and `completion_ids`, and the columns of a dataset, of which a
server has none. For a chat, a prompt is its messages, and a completion a list with the assistant's message.
https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from decoders.reply import with_objects
from server.engines.rewards.batcher import Pair
from server.engines.rewards.reward_values import as_rewards
from server.settings import FunctionCall, SettingsError

Function = Callable[..., Any]
TRL = ("prompts", "completions", "completion_ids")
BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Part(NamedTuple):
    """One call of a function, and the places of its completions in the batch."""

    places: list[int]
    arguments: list[Any]
    keywords: dict[str, Any]


class RewardCall(NamedTuple):
    """A function, and the keywords that it takes of TRL's call; None if it is called with two lists of texts."""

    function: Function
    keywords: tuple[str, ...] | None

    def score(self, pairs: Sequence[Pair]) -> list[float | None]:
        """Return the reward of each completion, or None; an async function runs in an event loop of this call.

        Raises `RewardFailed` for anything but numbers, and whatever the function raises.
        """
        parts = self.parts(pairs)
        return in_order(parts, [self.call(part.arguments, part.keywords) for part in parts])

    def parts(self, pairs: Sequence[Pair]) -> list[Part]:
        """Return the calls that score all pairs: TRL's functions never see texts and chats in one call."""
        if self.keywords is None:
            texts = [prompt.text for prompt, _ in pairs], [candidate.text for _, candidate in pairs]
            return [Part([*range(len(pairs))], [*texts], {})]
        parts: list[Part] = []
        for chat in (True, False):
            places = [i for i, (prompt, _) in enumerate(pairs) if (prompt.messages is not None) is chat]
            if places:
                given = _trl_arguments([pairs[i] for i in places])
                parts.append(Part(places, [], {name: given[name] for name in self.keywords}))
        return parts

    def call(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> list[float | None]:
        """Return the numbers that the function gives. Raises `RewardFailed`, and whatever the function raises."""
        return as_rewards(_result(self.function(*arguments, **keywords)))


def in_order(parts: Sequence[Part], answers: Sequence[list[float | None]]) -> list[float | None]:
    """Return the rewards of a batch, of its parts' rewards."""
    rewards: dict[int, float | None] = {}
    for part, own in zip(parts, answers, strict=True):
        if len(own) != len(part.places):
            return own  # whose number is wrong, as the caller will find
        rewards.update(zip(part.places, own, strict=True))
    return [rewards[place] for place in range(len(rewards))]


def reward_call(name: str, function: Function, call: FunctionCall | None) -> RewardCall:
    """Return how `function` is called: as `call` says, or else as its signature does.

    TRL's are those that take `**kwargs` (and no `*args`) or `completion_ids`, or that take `completions` first.

    Raises `SettingsError` if it cannot be called so.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some built-in functions have no signature
        return RewardCall(function, None)
    if (call or _call_of(parameters)) == "texts":
        try:
            inspect.signature(function).bind([], [])
        except TypeError as error:
            raise SettingsError(f"'{name}' is not called as (prompts, completions): {error}") from error
        return RewardCall(function, None)
    every = _has(parameters, inspect.Parameter.VAR_KEYWORD)
    keywords = tuple(name for name in TRL if every or (name in parameters and parameters[name].kind in BY_KEYWORD))
    try:
        inspect.signature(function).bind(**dict.fromkeys(keywords))
    except TypeError as error:
        raise SettingsError(
            f"'{name}' is called as TRL calls it, with {', '.join(TRL)} and without a dataset's columns: {error}"
        ) from error
    return RewardCall(function, keywords)


def _call_of(parameters: Any) -> FunctionCall:
    any_keyword, any_place = (
        _has(parameters, kind) for kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    )
    named = "completion_ids" in parameters or next(iter(parameters), None) == "completions"
    return "trl" if named or (any_keyword and not any_place) else "texts"


def _has(parameters: Any, kind: Any) -> bool:
    return any(parameter.kind is kind for parameter in parameters.values())


def _trl_arguments(pairs: Sequence[Pair]) -> dict[str, list[Any]]:
    prompts: list[Any] = []
    completions: list[Any] = []
    for prompt, candidate in pairs:
        if prompt.messages is None:
            prompts.append(prompt.text)
            completions.append(candidate.text)
        else:  # a turn that the prompt begins is a part of the completion
            *before, answer = with_objects(prompt.answered(prompt.reply(candidate)))
            prompts.append(before)
            completions.append([answer])
    return dict(zip(TRL, (prompts, completions, [list(c.tokens) for _, c in pairs]), strict=True))


def _result(value: Any) -> Any:
    """Return a function's result, awaited if need be."""
    return asyncio.run(_wait(value)) if inspect.isawaitable(value) else value


async def _wait(value: Awaitable[Any]) -> Any:
    return await value
