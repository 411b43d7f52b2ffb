"""Rewards of policy samples, which a calibrated reward is a quantile among: stored ones, or fresh ones, then stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from decoders.core import Prompt, Rewards, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost
from decoders.maths.quantiles import quantile, rank
from decoders.models import Models
from decoders.parts.scored_candidates import ScoredCandidates

ROLLOUTS = 100  # for each prompt, where neither the request nor a store says how many


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Rewards of samples of one prompt from the frozen policy, by reward and in rising order, and their cost."""

    ranked: Mapping[str, Sequence[float]]
    cost: Cost = field(default_factory=Cost)

    @property
    def counts(self) -> Mapping[str, int]:
        return {name: len(ranked) for name, ranked in self.ranked.items()}

    def quantiles(self, rewards: Sequence[Rewards]) -> list[Rewards]:
        return [
            {name: None if r is None else quantile(r, self.ranked[name]) for name, r in one.items()} for one in rewards
        ]


def count(asked: int | None, models: Models) -> int:
    """Return how many rollouts a request means: `asked` if it says, else what the store keeps, else 100."""
    if asked is not None:
        return asked
    return ROLLOUTS if models.calibration is None else models.calibration.rollouts


async def rollouts(
    prompt: Prompt,
    number: int,
    models: Models,
    names: Sequence[str],
    sampling: Sampling,
    rng: Rng,
    *,
    on_demand: bool,
) -> Rollouts:
    """Return at least `number` rewards of policy samples for each reward of `names`, from the store where it has them.

    The samples are of the frozen policy: the guides of `sampling` do not count. Raise `InvalidRequest` where some would
    have to be drawn now and `on_demand` does not allow it.
    """
    frozen = frozen_policy(sampling)
    known = await _stored(prompt, number, models, names, frozen)
    lacking = [name for name in names if name not in known]
    if not lacking:
        return Rollouts(known)
    if not on_demand:
        raise InvalidRequest(
            f"This prompt, sampled this way, has no {number} stored rollouts of {', '.join(lacking)}: run `decant "
            "calibrate`, or allow them to be drawn now with on_demand.",
            "strategy.on_demand",
        )
    candidates = ScoredCandidates(prompt, models, lacking, frozen, rng)
    drawn = await candidates.draw(number)
    fresh = {name: [c.rewards[name] for c in drawn] for name in lacking}
    if models.calibration is not None:
        for name, values in fresh.items():
            finite = [r if r is not None and math.isfinite(r) else None for r in values]
            await models.calibration.keep(prompt, frozen, name, finite)
    return Rollouts({**known, **{name: rank(values) for name, values in fresh.items()}}, candidates.cost)


async def missing(prompt: Prompt, number: int, models: Models, names: Sequence[str], sampling: Sampling) -> list[str]:
    """Return those of `names` that have fewer than `number` stored rollouts of this prompt."""
    known = await _stored(prompt, number, models, names, frozen_policy(sampling))
    return [name for name in names if name not in known]


async def _stored(
    prompt: Prompt, number: int, models: Models, names: Sequence[str], frozen: Sampling
) -> dict[str, Sequence[float]]:
    """Return the stored rollouts of each of `names` that has at least `number`, in rising order."""
    known: dict[str, Sequence[float]] = {}
    if models.calibration is not None:
        for name in names:
            stored = await models.calibration.stored(prompt, frozen, name)
            if len(stored) >= number:
                known[name] = rank(stored)
    return known


def frozen_policy(sampling: Sampling) -> Sampling:
    """Return how the frozen policy is sampled where a request asks for `sampling`: all that decides an answer's law."""
    return replace(sampling, guides={}, n=1, stream=False, logprobs=None, prompt_logprobs=None)
