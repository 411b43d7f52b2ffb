"""Candidates drawn and scored together: what every strategy that searches stands on."""

import asyncio
import math
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from decoders.core import Candidate, Models, Prompt, Rng, Sampling

T = TypeVar("T")


@dataclass
class Pool:
    """Candidates with the rewards of each, by name, and what they took.

    `rewards[name][i]` belongs to `candidates[i]`, in the policy's order and not in the order they finished, so
    that a seeded choice does not depend on the machine.
    """

    weights: Mapping[str, float]
    candidates: list[Candidate] = field(default_factory=list)
    rewards: dict[str, list[float]] = field(default_factory=dict)
    scored_tokens: int = 0
    generate_seconds: float = 0.0
    score_seconds: float = 0.0

    async def draw(self, prompt: Prompt, n: int, models: Models, sampling: Sampling, rng: Rng) -> None:
        """Draw `n` more candidates in one call, scoring each as it finishes.

        Raises `RewardFailed` or `EngineFailed`, and stops all the work it began, when any of it fails.
        """
        started = time.perf_counter()
        drawn: dict[int, Candidate] = {}
        scores: dict[int, list[asyncio.Task[list[float]]]] = {}
        try:
            async with asyncio.TaskGroup() as scoring:
                samples = models.policy.sample(prompt, n, sampling, rng)
                try:
                    async for i, candidate in samples:
                        drawn[i] = candidate
                        scores[i] = [
                            scoring.create_task(models.rewards[name].score(prompt, [candidate]))
                            for name in self.weights
                        ]
                finally:
                    await samples.aclose()
                finished = time.perf_counter()
        except BaseExceptionGroup as group:  # one cause is enough, and callers know it by its type
            raise first_cause(group) from None
        self.generate_seconds += finished - started
        self.score_seconds += time.perf_counter() - finished
        for i in sorted(drawn):
            self.candidates.append(drawn[i])
            self.scored_tokens += (len(prompt.tokens) + len(drawn[i].tokens)) * len(self.weights)
            for name, task in zip(self.weights, scores[i], strict=True):
                self.rewards.setdefault(name, []).append(task.result()[0])

    def split(self, n: int) -> tuple["Pool", "Pool"]:
        """The first `n` candidates, and the others."""
        first, rest = Pool(self.weights), Pool(self.weights)
        first.candidates, rest.candidates = self.candidates[:n], self.candidates[n:]
        first.rewards = {name: values[:n] for name, values in self.rewards.items()}
        rest.rewards = {name: values[n:] for name, values in self.rewards.items()}
        return first, rest


def weighted_sum(rewards: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """sum_j weights[j] rewards[j][i] for each candidate i; not finite where any of its rewards is not."""
    columns = [[w * r for r in rewards[name]] for name, w in weights.items()]
    return [sum(row) if all(map(math.isfinite, row)) else math.nan for row in zip(*columns, strict=True)]


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
