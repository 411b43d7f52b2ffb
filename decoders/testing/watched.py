"""Policies and rewards to watch or to break: they count, run a hook, fail, or finish in another order."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.errors import RewardFailed
from decoders.models import Models, Reward
from decoders.policy import Policy
from decoders.testing.delegating import DelegatingPolicy
from decoders.testing.toy import ToyPolicy
from decoders.testing.toy_rewards import ToyBrevity, ToyReward
from decoders.testing.toy_table import ToyGuide

GUIDES = {"kind": ToyGuide()}
Hook = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """Do nothing."""


async def let_others_run() -> None:
    await asyncio.sleep(0)


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RewardFailed("no answer")


@dataclass(kw_only=True)
class WatchedPolicy(DelegatingPolicy):
    """A policy, the toy by default, with hooks before and after each item it yields, and counts of its work.

    Attributes:
        before: Awaited before each item is yielded.
        after: Awaited after each item was yielded.
        inner: The policy that draws.
        open: Generators that are not closed.
        running: Sequences that are being drawn: those of open generators that have not finished.
        peak: The largest number of sequences that were being drawn at the same time.
        candidates: Sequences that were started.
        tokens: Tokens that were drawn.
    """

    before: Hook = nothing
    after: Hook = nothing
    inner: Policy = field(default_factory=lambda: ToyPolicy(loaded=GUIDES))
    open: int = 0
    running: int = 0
    peak: int = 0
    candidates: int = 0
    tokens: int = 0
    name: str = "watched"

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        with self._counted(n) as finish:
            async with aclosing(self.inner.sample(prompt, n, sampling, rng, pieces=pieces)) as samples:
                async for i, candidate in samples:
                    self.tokens += len(candidate.tokens)
                    await self.before()
                    yield i, candidate
                    if candidate.finish is not None:
                        finish()
                    await self.after()

    async def extend(
        self, prompt: Prompt, prefix: Candidate, n: int, tokens: int, sampling: Sampling, rng: Rng, **more: Any
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        with self._counted(n) as finish:
            async with aclosing(self.inner.extend(prompt, prefix, n, tokens, sampling, rng, **more)) as samples:
                async for i, candidate, drawn in samples:
                    self.tokens += drawn
                    await self.before()
                    yield i, candidate, drawn
                    finish()
                    await self.after()

    @contextmanager
    def _counted(self, n: int) -> Iterator[Callable[[], None]]:
        """Count one generator of `n` sequences while the block runs; give what to call when a sequence finishes."""
        left = n

        def finish() -> None:
            nonlocal left
            left -= 1
            self.running -= 1

        self.open += 1
        self.candidates += n
        self.running += n
        self.peak = max(self.peak, self.running)
        try:
            yield finish
        finally:
            self.open -= 1
            self.running -= left


class BackwardsPolicy(ToyPolicy):
    """The toy policy, with the last completion finishing first."""

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
    """A reward that counts the tokens it is given to read, those of the prompt included."""

    inner: Reward
    tokens: int = 0

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        self.tokens += sum(len(prompt.tokens) + len(c.tokens) for c in completions)
        return await self.inner.score(prompt, completions)


@dataclass
class HookedReward:
    """The toy's reward, after a hook."""

    first: Hook

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        await self.first()
        return await ToyReward().score(prompt, completions)


class BrokenReward:
    """A reward that fails as it is called, before there is anything to await."""

    def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Coroutine[Any, Any, list[float]]:  # noqa: ARG002
        raise RewardFailed("no answer")


def toy_models(policy: Policy, default: Reward | None = None, brevity: Reward | None = None) -> Models:
    """Return a policy with the rewards `default` and `brevity`: the toy's own, where no others are given."""
    return Models(policy, {"default": default or ToyReward(), "brevity": brevity or ToyBrevity()})
