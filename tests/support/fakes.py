"""Policies, rewards and engines whose behaviour a test chooses."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.models import Models, Reward
from decoders.policy import Policy
from decoders.testing import WORDS, DelegatingPolicy, ToyPolicy, ToyReward
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.engines.toy_text import ToyText
from server.loading import Loaded
from tests.support.serving import PATIENCE


@dataclass
class HeldPolicy(DelegatingPolicy):
    """The toy, which waits after `give` items (completions, or pieces of one) until `released` is set."""

    give: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    opened: int = 0
    closed: int = 0

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        self.opened += 1
        try:
            async with aclosing(self.inner.sample(prompt, n, sampling, rng, pieces=pieces)) as samples:
                left = self.give
                if left == 0:
                    await self._hold()
                async for item in samples:
                    yield item
                    left -= 1
                    if left == 0:
                        await self._hold()
        finally:
            self.closed += 1

    async def _hold(self) -> None:
        while not self.released.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.005)

    @property
    def working(self) -> int:
        return self.opened - self.closed


@dataclass
class FailingPolicy(DelegatingPolicy):
    """The toy, which raises `error` after `give` items, if only at the end."""

    error: Exception
    give: int = 0

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        async with aclosing(self.inner.sample(prompt, n, sampling, rng, pieces=pieces)) as samples:
            left = self.give
            async for item in samples:
                if left == 0:
                    raise self.error
                yield item
                left -= 1
        raise self.error


@dataclass
class ActingReward:
    """A reward that returns or raises what `act` does, which takes the number of completions."""

    act: Callable[[int], Awaitable[list[float]]]
    calls: int = 0
    ended: int = 0

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        self.calls += 1
        try:
            return await self.act(len(completions))
        finally:
            self.ended += 1


def raising(error: Exception) -> ActingReward:
    async def act(_: int) -> list[float]:
        raise error

    return ActingReward(act)


def giving(value: float) -> ActingReward:
    async def act(n: int) -> list[float]:
        return [value] * n

    return ActingReward(act)


def hanging() -> ActingReward:
    async def act(_: int) -> list[float]:
        await asyncio.Event().wait()
        raise AssertionError("the event is never set")

    return ActingReward(act)


@dataclass
class FakeEngine:
    errored: bool = False

    def shutdown(self, timeout: float) -> None:
        """Nothing to shut down."""


def world(
    policy: Policy | None = None,
    rewards: dict[str, Reward] | None = None,
    *,
    engines: dict[str, FakeEngine] | None = None,
    text: ToyText | None = None,
    reward_timeout: float = PATIENCE,
) -> Loaded:
    """Return what a server serves: the toy where nothing else is given, with rewards under a timeout."""
    named = {"default": ToyReward()} if rewards is None else rewards
    guarded: dict[str, Reward] = {
        name: RewardWithTimeout(name, reward, reward_timeout) for name, reward in named.items()
    }
    return Loaded(
        Models(policy or ToyPolicy(), guarded),
        text or ToyText(),
        dict.fromkeys(guarded, "fake"),
        engines=cast(Any, engines or {}),
    )


def toy_reward(text: str) -> float:
    """The toy's reward of a completion's text."""
    return ToyReward().of(tuple(WORDS.index(f" {word}") for word in text.split()))
