"""Candidates drawn from the policy and scored as they finish: the loop under every strategy that searches."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.events import Cost, ScoredCandidate
from decoders.maths.logmath import mean
from decoders.models import Models
from decoders.parts.concurrency import together
from decoders.parts.scoring import tokens_read
from decoders.policy import EntropyStop

Drawn = AsyncGenerator[tuple[int, Candidate, int]]
"""(index, completion, tokens generated for it), as each one finishes."""


@dataclass
class ScoredCandidates:
    """Draws candidates for one prompt, scores each by the rewards `names`, and adds up the cost.

    Candidates are returned in the policy's order and not in the order in which they finish, so that a seeded choice
    does not depend on the machine. A failure stops all other work of the call, and `RewardFailed` or
    `EngineFailed` is raised.
    """

    prompt: Prompt
    models: Models
    names: Sequence[str]
    sampling: Sampling
    rng: Rng
    cost: Cost = field(default_factory=Cost)

    async def draw(self, n: int) -> list[ScoredCandidate]:
        """Return `n` completions of the prompt, drawn together."""
        [drawn] = await self._score([self._sampled(n)])
        return drawn

    async def extend(
        self,
        prefixes: Sequence[Candidate],
        counts: Sequence[int],
        tokens: int,
        *,
        stop_block: Sequence[str] = (),
        entropy_stop: EntropyStop | None = None,
    ) -> list[list[ScoredCandidate]]:
        """Return `counts[i]` continuations of `prefixes[i]`, all drawn together, each with its prefix.

        Args:
            prefixes: Unfinished answers.
            counts: Continuations of each.
            tokens: Tokens of a continuation, at most.
            stop_block: Strings that end a continuation, and stay in it.
            entropy_stop: Where a continuation ends before a token.
        """
        return await self._score(
            [
                self.models.policy.extend(
                    self.prompt,
                    prefix,
                    count,
                    tokens,
                    self.sampling,
                    self.rng,
                    stop_block=stop_block,
                    entropy_stop=entropy_stop,
                )
                for prefix, count in zip(prefixes, counts, strict=True)
            ]
        )

    async def _sampled(self, n: int) -> Drawn:
        async with aclosing(self.models.policy.sample(self.prompt, n, self.sampling, self.rng)) as samples:
            async for i, candidate in samples:
                yield i, candidate, len(candidate.tokens)

    async def _score(self, sources: Sequence[Drawn]) -> list[list[ScoredCandidate]]:
        """Return the candidates of each source; time until the last is drawn is `generate`, the rest `score`."""
        started = time.perf_counter()
        finished = await together(self._score_one(source) for source in sources)
        drawn_at = max((at for _, at in finished), default=started)
        self.cost += Cost(seconds={"generate": drawn_at - started, "score": time.perf_counter() - drawn_at})
        return [scored for scored, _ in finished]

    async def _score_one(self, source: Drawn) -> tuple[list[ScoredCandidate], float]:
        """Return the source's candidates, and when the last of them was drawn."""
        drawn: dict[int, Candidate] = {}
        scores: dict[int, list[asyncio.Task[Sequence[float | None]]]] = {}
        generated = 0
        rewards = [self.models.rewards[name] for name in self.names]
        async with asyncio.TaskGroup() as scoring:
            async with aclosing(source):
                async for i, candidate, count in source:
                    drawn[i] = candidate
                    generated += count
                    scores[i] = [scoring.create_task(reward.score(self.prompt, [candidate])) for reward in rewards]
            drawn_at = time.perf_counter()
        scored = [
            ScoredCandidate(
                drawn[i], {name: task.result()[0] for name, task in zip(self.names, scores[i], strict=True)}
            )
            for i in sorted(drawn)
        ]
        read = tokens_read(self.prompt, list(drawn.values())) * len(rewards)
        self.cost += Cost(len(drawn), generated, read)
        return scored, drawn_at


def mean_rewards(candidates: Sequence[ScoredCandidate], names: Sequence[str]) -> dict[str, float]:
    """Return the mean of each reward over the candidates that have a finite one; NaN where none has."""
    means: dict[str, float] = {}
    for name in names:
        values = [v for c in candidates if (v := c.rewards[name]) is not None and math.isfinite(v)]
        means[name] = mean(values) if values else math.nan
    return means
