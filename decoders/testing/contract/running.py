"""Runs of a strategy on the toy, and what every check of them needs."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from decoders.base import Decoder
from decoders.core import Prompt, Sampling
from decoders.events import Done, Event, Step
from decoders.models import Models
from decoders.rng import SeededRng
from decoders.testing.watched import WatchedPolicy

PROMPT = Prompt((1, 2), "good bad")
REWARDS = {"default": 1.0, "brevity": 0.5}
PATIENCE_S = 5.0


async def run(decoder: Decoder, models: Models, sampling: Sampling, seed: int = 0) -> tuple[list[Step], Done]:
    """Return the steps of a run, and its end."""
    named = decoder.reward if isinstance(decoder.reward, dict) else {}
    assert named.keys() == REWARDS.keys(), f"the contract is checked with reward={REWARDS}"
    events: list[Event] = [e async for e in decoder.decode(PROMPT, models, sampling, SeededRng(seed))]
    steps = [e for e in events if isinstance(e, Step)]
    last = events[-1]
    assert isinstance(last, Done), "the last event is not Done"
    assert len(steps) == len(events) - 1, "Done came before the last event"
    return steps, last


async def failure(run: Awaitable[Any]) -> Exception:
    """Return the exception that a run ends with."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await run
    except Exception as error:
        return error
    raise AssertionError("the run ended well although a model failed")


def isolated(check: Coroutine[Any, Any, None]) -> None:
    """Run a check in an event loop of its own; assert that it leaves no task behind."""

    async def main() -> None:
        await check
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task of the run is still there"

    asyncio.run(main())


def assert_closed(policy: WatchedPolicy) -> None:
    assert policy.open == 0, f"{policy.open} generators of the policy are still open"
