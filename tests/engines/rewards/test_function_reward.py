"""A reward that is a Python function: called in a thread, timed, and failing alone whatever it does."""

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from decoders.core import Candidate, Prompt
from decoders.errors import RewardFailed, RewardTimeout
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.function_call import RewardCall
from server.engines.rewards.function_reward import MAX_THREADS, call_in_thread
from server.engines.rewards.reward_timeout import RewardWithTimeout
from tests.support.serving import PATIENCE


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE))


async def score(reward: RewardWithTimeout, *texts: str) -> list[float | None]:
    return await reward.score(Prompt((1,), "good"), [Candidate((1,), text, "stop") for text in texts])


def function(call: Callable[[list[str], list[str]], Any], seconds: float = PATIENCE) -> RewardWithTimeout:
    """A function as the server serves it."""
    return RewardWithTimeout("tone", Batcher(call_in_thread(RewardCall(call, None)), 64, seconds), seconds)


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


@dataclass
class Scalar:
    """What a tensor of no dimensions looks like."""

    value: object
    shape: tuple[int, ...] = ()

    def item(self) -> object:
        return self.value


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
        (lambda *_: None, "gave None, which is not a list of numbers"),
        (lambda *_: 0.5, "gave 0.5, which is not a list of numbers"),
        (lambda *_: "1", "gave '1', which is not a list of numbers"),
        (lambda *_: b"1", "gave b'1', which is not a list of numbers"),
        (lambda *_: {0: 1.0}, "gave {0: 1.0}, which is not a list of numbers"),
        (lambda *_: {1.0}, "gave {1.0}, which is not a list of numbers"),
        (lambda *_: np.array(1.0), "TypeError: iteration over a 0-d array"),
        (lambda *_: ["high"], "the score of completion 0: 'high' is not a number"),
        (lambda *_: ["1.5"], "the score of completion 0: '1.5' is not a number"),
        (lambda *_: [True], "the score of completion 0: True is not a number"),
        (lambda *_: [np.True_], "the score of completion 0: True is not a number"),
        (lambda *_: [np.str_("1")], "the score of completion 0: '1' is not a number"),
        (lambda *_: [{"score": 1.0}], "the score of completion 0: {'score': 1.0} is not a number"),
        (lambda *_: [[1.0]], "the score of completion 0: [1.0] is not a number"),
        (lambda *_: [np.array([1.0])], "the score of completion 0: array([1.]) is not a number"),
        (lambda *_: [1j], "the score of completion 0: 1j is not a number"),
        (lambda *_: [10**400], "the score of completion 0: int too large"),
    ],
)
def test_a_function_that_fails_fails_at_once_and_alone(call: Callable[..., Any], words: str) -> None:
    async def test() -> None:
        with pytest.raises(RewardFailed) as caught:
            await score(function(call), "a")
        assert str(caught.value).startswith("The reward 'tone' failed: ")
        assert words in str(caught.value)

    run(test)


@pytest.mark.parametrize(
    ("score_", "value"),
    [
        (2, 2.0),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.int64(-3), -3.0),
        (np.array(0.5), 0.5),
        (np.float64("-inf"), -math.inf),
        (Scalar(0.5), 0.5),
    ],
)
def test_every_kind_of_real_number_is_a_score(score_: object, value: float) -> None:
    async def test() -> None:
        for scores in ([score_, 1.0], (score_, 1), iter([score_, 1.0])):
            assert await score(function(lambda *_, scores=scores: scores), "a", "b") == [value, 1.0]
        assert await score(function(lambda *_: np.array([0.5, 2.0], np.float32)), "a", "b") == [0.5, 2.0]
        assert await score(function(lambda *_: [None, 2.0]), "a", "b") == [None, 2.0]

    run(test)


def test_one_bad_score_fails_its_own_request_only() -> None:
    async def test() -> None:
        batched = function(lambda _, completions: ["?" if c == "bad" else len(c) for c in completions])
        first = asyncio.create_task(score(batched, "a"))
        good, bad = asyncio.create_task(score(batched, "bb")), asyncio.create_task(score(batched, "c", "bad"))
        assert [await first, await good] == [[1.0], [2.0]]
        with pytest.raises(RewardFailed, match="The reward 'tone' failed: the score of completion 1: '\\?' is not a"):
            await bad

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


def test_a_thousand_calls_that_hang_hold_a_few_threads_and_the_function_comes_back() -> None:
    release = threading.Event()
    hung = list[threading.Thread]()

    def hang(_: list[str], completions: list[str]) -> list[float]:
        hung.append(threading.current_thread())
        release.wait(PATIENCE)
        return [1.0] * len(completions)

    async def test() -> None:
        reward = function(hang, 0.05)
        for i in range(1000):
            with pytest.raises(RewardTimeout if i < MAX_THREADS else RewardFailed) as caught:
                await score(reward, "a")
            assert (f"{MAX_THREADS} calls of it hang" in str(caught.value)) is (i >= MAX_THREADS)
        assert len(hung) == MAX_THREADS
        release.set()
        for thread in hung:
            thread.join(PATIENCE)
        assert await score(reward, "a") == [1.0]

    run(test)
