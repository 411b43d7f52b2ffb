"""The toy's models with something to watch or to go wrong: open generators, order, delays, failures."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from decoders.core import Candidate, Policy, Prompt, Rng, Sampling, TokenLaw
from decoders.errors import RewardFailed
from decoders.models import Models, Reward
from server.engines.toy import ToyBrevity, ToyGuide, ToyPolicy, ToyReward

GUIDES = {"kind": ToyGuide()}


async def nothing() -> None:
    """No hook."""


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RewardFailed("no answer")


class Unguided:
    """A policy with no guides beside it."""

    @property
    def guides(self) -> dict[str, str]:
        return {}

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        return await ToyPolicy().logprob(prompt, completion, law)

    def extend(
        self, prompt: Prompt, prefix: Candidate, n: int, tokens: int, sampling: Sampling, rng: Rng, **more: Any
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        return ToyPolicy().extend(prompt, prefix, n, tokens, sampling, rng, **more)

    def check_entropy_stop(self, sampling: Sampling) -> None:
        """Any sampling will do."""


@dataclass
class WatchedPolicy:
    """The toy policy, which counts its open generators and its tokens, and waits after each thing it yields."""

    then: Callable[[], Awaitable[None]] = nothing
    inner: ToyPolicy = field(default_factory=lambda: ToyPolicy(loaded=GUIDES))
    open: int = 0
    most: int = 0
    tokens: int = 0
    name: str = "watched"

    @property
    def guides(self) -> dict[str, str]:
        return self.inner.guides

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        self.open += 1
        self.most = max(self.most, n)
        try:
            async with aclosing(self.inner.sample(prompt, n, sampling, rng, pieces=pieces)) as samples:
                async for i, candidate in samples:
                    self.tokens += len(candidate.tokens)
                    yield i, candidate
                    await self.then()
        finally:
            self.open -= 1

    async def extend(
        self, prompt: Prompt, prefix: Candidate, n: int, tokens: int, sampling: Sampling, rng: Rng, **more: Any
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        self.open += 1
        self.most = max(self.most, n)
        try:
            async with aclosing(self.inner.extend(prompt, prefix, n, tokens, sampling, rng, **more)) as samples:
                async for i, candidate, drawn in samples:
                    self.tokens += drawn
                    yield i, candidate, drawn
                    await self.then()
        finally:
            self.open -= 1

    def check_entropy_stop(self, sampling: Sampling) -> None:
        self.inner.check_entropy_stop(sampling)

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        return await self.inner.logprob(prompt, completion, law)


class BrokenReward:
    """A reward that fails before there is anything to wait for."""

    def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Coroutine[Any, Any, list[float]]:  # noqa: ARG002
        raise RewardFailed("no answer")


class BackwardsPolicy(ToyPolicy):
    """The toy policy, the last completion finishing first."""

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        for i, candidate in reversed([s async for s in super().sample(prompt, n, sampling, rng, pieces=pieces)]):
            yield i, candidate

    async def extend(
        self, prompt: Prompt, prefix: Candidate, n: int, tokens: int, sampling: Sampling, rng: Rng, **more: Any
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        for grown in reversed([s async for s in super().extend(prompt, prefix, n, tokens, sampling, rng, **more)]):
            yield grown


@dataclass
class CountedReward:
    """A reward that counts the tokens it is given to read."""

    inner: Reward
    tokens: int = 0

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        self.tokens += sum(len(prompt.tokens) + len(c.tokens) for c in completions)
        return await self.inner.score(prompt, completions)


@dataclass
class HookedReward:
    """The toy's reward, after something else."""

    first: Callable[[], Awaitable[None]]

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        await self.first()
        return await ToyReward().score(prompt, completions)


def world(policy: Policy, default: Reward | None = None, brevity: Reward | None = None) -> Models:
    return Models(policy, {"default": default or ToyReward(), "brevity": brevity or ToyBrevity()})
