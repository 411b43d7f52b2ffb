"""Candidates drawn and scored together: what every strategy that searches stands on."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from decoders.core import Candidate, Prompt, Rewards, Rng, Sampling
from decoders.events import Cost
from decoders.maths.logmath import mean
from decoders.models import Models
from decoders.parts.concurrency import first_cause, together


@dataclass
class ScoredCandidates:
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


def mean_rewards(pool: ScoredCandidates) -> dict[str, float]:
    """The mean of each reward over the candidates that have one; NaN where none has."""
    means: dict[str, float] = {}
    for name, values in pool.rewards.items():
        finite = [v for v in values if v is not None and math.isfinite(v)]
        means[name] = mean(finite) if finite else math.nan
    return means


def _passes(prompt: Prompt, candidates: Sequence[Candidate]) -> int:
    """Tokens that a reward model reads to score them."""
    return sum(len(prompt.tokens) + len(candidate.tokens) for candidate in candidates)
