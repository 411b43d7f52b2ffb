"""Scoring alone: given completions, no generation."""

import time

from decoders.core import Candidate, Models, Prompt, RewardSpec, Rng, Sampling
from decoders.events import Cost, Done, Result, Run
from decoders.pool import together


class Score:
    """The rewards of `completions`, in their order: what `POST /v1/rewards` runs.

    Not a strategy that a request can name: it draws nothing.
    """

    return_candidates = False
    return_kl = False

    def __init__(self, completions: list[Candidate], reward: RewardSpec) -> None:
        self._completions = completions
        self._reward = reward

    def sequences(self, n: int) -> int:  # noqa: ARG002
        return len(self._completions)

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:  # noqa: ARG002
        started = time.perf_counter()
        weights = models.weights(self._reward)
        columns = await together(models.rewards[name].score(prompt, self._completions) for name in weights)
        tokens = sum(len(prompt.tokens) + len(c.tokens) for c in self._completions)
        yield Done(
            results=tuple(
                Result(candidate, rewards=dict(zip(weights, row, strict=True)))
                for candidate, row in zip(self._completions, zip(*columns, strict=True), strict=True)
            ),
            cost=Cost(
                scored_tokens=tokens * len(weights),
                seconds={"score": time.perf_counter() - started},
            ),
        )
