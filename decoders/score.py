"""Scoring alone: given completions, no generation but of rollouts."""

import time
from collections.abc import Sequence

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, UnreadableText
from decoders.events import Cost, Done, Result, Run
from decoders.models import Models, Reward, RewardSpec
from decoders.parts.budget import times
from decoders.parts.concurrency import together
from decoders.parts.objective import Objective
from decoders.parts.rollouts import missing, rollouts, size


class Score:
    """The rewards of `completions`, in their order: what `POST /v1/rewards` runs.

    Not a strategy that a request can name: it draws nothing. With `calibrated`, each reward's quantile among samples
    of the policy is added, which `sampling` says how to draw where they are not stored and `on_demand` allows it.
    """

    return_candidates = False
    return_kl = False

    def __init__(
        self,
        completions: Sequence[Candidate],
        reward: RewardSpec,
        *,
        calibrated: bool = False,
        count: int | None = None,
        on_demand: bool = True,
    ) -> None:
        self._completions = completions
        self._reward = reward
        self._calibrated = calibrated
        self._count = count
        self._on_demand = on_demand

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        count = self._references(models)
        if count and not await missing(prompt, count, models, list(models.resolve_rewards(self._reward)), sampling):
            count = 0
        return max(len(self._completions), count)

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """The most that it may draw: the rollouts, where it is allowed to."""
        return times(sampling, self._references(models))

    def _references(self, models: Models) -> int:
        return size(self._count, models) if self._calibrated and self._on_demand else 0

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        weights = models.resolve_rewards(self._reward)
        objective = Objective(weights)
        if self._calibrated:
            count = size(self._count, models)
            objective = Objective(
                weights,
                reference=await rollouts(
                    prompt, count, models, objective.names, sampling, rng, on_demand=self._on_demand, field="on_demand"
                ),
            )
        started = time.perf_counter()
        columns = await together(self._scores(prompt, models.rewards[name]) for name in objective.names)
        tokens = sum(len(prompt.tokens) + len(c.tokens) for c in self._completions)
        rows = [dict(zip(objective.names, row, strict=True)) for row in zip(*columns, strict=True)]
        scored = [objective.scored(c, rewards) for c, rewards in zip(self._completions, rows, strict=True)]
        yield Done(
            results=tuple(Result(s.candidate, rewards=s.rewards, calibrated=s.calibrated) for s in scored),
            candidates=tuple(scored),
            cost=objective.cost
            + Cost(scored_tokens=tokens * len(objective.names), seconds={"score": time.perf_counter() - started}),
        )

    async def _scores(self, prompt: Prompt, reward: Reward) -> Sequence[float | None]:
        """Raise `InvalidRequest` for a text that cannot be read: here all of it is the caller's, none was drawn."""
        try:
            return await reward.score(prompt, self._completions)
        except UnreadableText as error:
            raise InvalidRequest(str(error), await _unreadable_field(prompt, reward)) from error


async def _unreadable_field(prompt: Prompt, reward: Reward) -> str:
    """Return the field to blame: the prompt's, if it cannot be read with a completion of one token either."""
    alone = "prompt" if prompt.messages is None else "messages"
    if not prompt.tokens:
        return alone
    try:
        await reward.score(prompt, [Candidate(prompt.tokens[-1:], ".", "length")])
    except UnreadableText:
        return alone
    return "completions"
