"""Candidates drawn and scored together: what every strategy that searches stands on."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from decoders.core import Candidate, Prompt, Rewards, Rng, Sampling
from decoders.events import Cost
from decoders.models import Models
from decoders.weights import mean

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Pool:
    """Candidates with the rewards of each, by name, and what they took.

    `rewards[name][i]` belongs to `candidates[i]`, in the policy's order and not in the order they finished, so
    that a seeded choice does not depend on the machine.
    """

    names: Sequence[str]
    candidates: list[Candidate] = field(default_factory=list)
    rewards: dict[str, list[float | None]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    async def draw(self, prompt: Prompt, n: int, models: Models, sampling: Sampling, rng: Rng) -> None:
        """Draw `n` more candidates in one call, scoring each as it finishes.

        Raises `RewardFailed` or `EngineFailed`, and stops all the work it began, when any of it fails.
        """
        started = time.perf_counter()
        drawn: dict[int, Candidate] = {}
        scores: dict[int, list[asyncio.Task[Sequence[float | None]]]] = {}
        try:
            async with asyncio.TaskGroup() as scoring:
                samples = models.policy.sample(prompt, n, sampling, rng)
                try:
                    async for i, candidate in samples:
                        drawn[i] = candidate
                        scores[i] = [
                            scoring.create_task(models.rewards[name].score(prompt, [candidate])) for name in self.names
                        ]
                finally:
                    await samples.aclose()
                finished = time.perf_counter()
        except BaseExceptionGroup as group:  # one cause is enough, and callers know it by its type
            raise first_cause(group) from None
        candidates = [drawn[i] for i in sorted(drawn)]
        columns = {name: [scores[i][j].result()[0] for i in sorted(drawn)] for j, name in enumerate(self.names)}
        self._take(candidates, columns)
        self.cost += Cost(
            len(candidates),
            sum(len(candidate.tokens) for candidate in candidates),
            _passes(prompt, candidates) * len(self.names),
            {"generate": finished - started, "score": time.perf_counter() - finished},
        )

    async def add(
        self, prompt: Prompt, candidates: Sequence[Candidate], known: Sequence[Rewards], models: Models
    ) -> None:
        """Take candidates that were drawn elsewhere, scoring them by each reward that is not `known` of all of them."""
        started = time.perf_counter()
        missing = [name for name in self.names if not all(name in one for one in known)]
        scores = await together(models.rewards[name].score(prompt, candidates) for name in missing)
        fresh = dict(zip(missing, scores, strict=True))
        self._take(candidates, {n: fresh[n] if n in fresh else [one[n] for one in known] for n in self.names})
        passes = _passes(prompt, candidates) * len(missing)
        self.cost += Cost(scored_tokens=passes, seconds={"score": time.perf_counter() - started})

    def _take(self, candidates: Sequence[Candidate], columns: Mapping[str, Sequence[float | None]]) -> None:
        self.candidates += candidates
        for name in self.names:
            self.rewards.setdefault(name, []).extend(columns[name])

    def rewards_of(self, i: int) -> dict[str, float | None]:
        """Candidate i's, by name."""
        return {name: self.rewards[name][i] for name in self.names}


def mean_rewards(pool: Pool) -> dict[str, float]:
    """The mean of each reward over the candidates that have one; NaN where none has."""
    means: dict[str, float] = {}
    for name, values in pool.rewards.items():
        finite = [v for v in values if v is not None and math.isfinite(v)]
        means[name] = mean(finite) if finite else math.nan
    return means


def _passes(prompt: Prompt, candidates: Sequence[Candidate]) -> int:
    """Tokens that a reward model reads to score them."""
    return sum(len(prompt.tokens) + len(candidate.tokens) for candidate in candidates)


async def as_done(work: Sequence[Coroutine[Any, Any, T]]) -> AsyncGenerator[tuple[int, T]]:
    """(index, result) of each as it comes. The first to fail stops the others, and so does closing this."""
    tasks = [asyncio.ensure_future(one) for one in work]
    index = {task: i for i, task in enumerate(tasks)}
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield index[task], task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def merge(runs: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """The items of all generators as they come, each with its generator's index. The first failure ends all."""
    if len(runs) == 1:
        async with aclosing(runs[0]) as run:
            async for item in run:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()

    async def pump(index: int, run: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(run):
                async for item in run:
                    queue.put_nowait((index, item))
        finally:
            queue.put_nowait(None)

    pumps = [asyncio.create_task(pump(i, run)) for i, run in enumerate(runs)]
    try:
        left = len(pumps)
        while left:
            came = await queue.get()
            if came is not None:
                yield came
                continue
            left -= 1
            for task in pumps:
                if task.done():
                    task.result()
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Two results of work that goes on at the same time, with failures as in `together`."""
    try:
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(one), group.create_task(other)
    except BaseExceptionGroup as errors:
        raise first_cause(errors) from None
    return first.result(), second.result()


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order. The first to fail stops the others, and is what is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise first_cause(errors) from None
    return [task.result() for task in tasks]


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of concurrent ones."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
