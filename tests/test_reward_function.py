"""A reward that is a Python function: called in a thread, timed, and failing alone whatever it does."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from decoders.core import Candidate, Prompt
from decoders.errors import RewardFailed, RewardTimeout
from server.engines.batcher import Batcher
from server.engines.function import scorer
from server.engines.guard import Guarded
from tests.serving import PATIENCE


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE))


async def score(reward: Guarded, *texts: str) -> list[float]:
    return await reward.score(Prompt((1,), "good"), [Candidate((1,), text, "stop") for text in texts])


def function(call: Callable[[list[str], list[str]], Any], seconds: float = PATIENCE) -> Guarded:
    """A function as the server serves it."""
    return Guarded("tone", Batcher(scorer(call), 64, seconds), seconds)


def test_a_function_sees_texts_in_a_thread_of_its_own() -> None:
    seen: list[tuple[list[str], list[str], threading.Thread]] = []

    def lengths(prompts: list[str], completions: list[str]) -> list[int]:
        seen.append((prompts, completions, threading.current_thread()))
        return [len(c) for c in completions]

    async def test() -> None:
        assert await score(function(lengths), "a", "bcd") == [1.0, 3.0]

    run(test)
    [(prompts, completions, thread)] = seen
    assert (prompts, completions) == (["good", "good"], ["a", "bcd"])
    assert thread is not threading.main_thread()


def throw(error: BaseException) -> Callable[[list[str], list[str]], Any]:
    def call(prompts: list[str], completions: list[str]) -> list[float]:  # noqa: ARG001
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (throw(KeyError("a")), "KeyError: 'a'"),
        (throw(SystemExit(3)), "SystemExit: 3"),
        (throw(KeyboardInterrupt()), "KeyboardInterrupt"),
        (throw(StopIteration()), "StopIteration"),
        (lambda _, c: [0.0] * (len(c) + 1), "gave 2 rewards for 1 completions"),
        (lambda *_: None, "TypeError: 'NoneType' object is not iterable"),
        (lambda *_: 0.5, "TypeError: 'float' object is not iterable"),
        (lambda *_: ["high"], "ValueError: could not convert string to float: 'high'"),
    ],
)
def test_a_function_that_fails_fails_at_once_and_alone(call: Callable[..., Any], words: str) -> None:
    async def test() -> None:
        with pytest.raises(RewardFailed) as caught:
            await score(function(call), "a")
        assert str(caught.value).startswith("The reward 'tone' failed: ")
        assert words in str(caught.value)

    run(test)


def test_a_function_that_hangs_is_given_up_and_asked_again() -> None:
    calls: list[threading.Event] = []

    def hang_once(_: list[str], completions: list[str]) -> list[float]:
        calls.append(threading.Event())
        if len(calls) == 1:
            calls[0].wait(PATIENCE)
        return [1.0] * len(completions)

    async def test() -> None:
        reward = function(hang_once, 0.3)
        with pytest.raises(RewardTimeout):
            await score(reward, "a")
        assert await score(reward, "b") == [1.0]

    run(test)
    calls[0].set()
