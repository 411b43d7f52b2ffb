"""The rewards of policy samples that a calibrated reward is a quantile among: stored ones, or fresh ones, then kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from decoders.core import Prompt, Rewards, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost
from decoders.maths.quantiles import quantile, rank
from decoders.models import Models
from decoders.parts.scored_candidates import ScoredCandidates

ROLLOUTS = 100  # a prompt's, where neither the request nor a store says


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Rewards of samples of one prompt from the frozen policy, by name and in order, and what it took to draw them."""

    ranked: Mapping[str, Sequence[float]]
    cost: Cost = field(default_factory=Cost)

    def calibrated(self, rewards: Rewards) -> dict[str, float | None]:
        """C of each of `rewards`, by name; None for one that does not apply, NaN for one that is not finite."""
        return {name: None if r is None else quantile(r, self.ranked[name]) for name, r in rewards.items()}


def size(asked: int | None, models: Models) -> int:
    """How many rollouts a request means: what it asks for, what the store is for, or 100."""
    if asked is not None:
        return asked
    return ROLLOUTS if models.calibration is None else models.calibration.rollouts


async def rollouts(
    prompt: Prompt,
    count: int,
    models: Models,
    names: Sequence[str],
    sampling: Sampling,
    rng: Rng,
    *,
    on_demand: bool,
    field: str = "decoding.on_demand",
) -> Rollouts:
    """At least `count` rewards of each name, from the store where it has them. Guides do not matter to what pi is.

    Raises `InvalidRequest` where they would have to be drawn now and `on_demand` does not allow it.
    """
    frozen = frozen_policy(sampling)
    known = await _stored(prompt, count, models, names, frozen)
    lacking = [name for name in names if name not in known]
    if not lacking:
        return Rollouts(known)
    if not on_demand:
        raise InvalidRequest(
            f"This prompt, sampled this way, has no {count} stored rollouts of {', '.join(lacking)}: run `decant "
            "calibrate`, or allow them to be drawn now with on_demand.",
            field,
        )
    pool = ScoredCandidates(lacking)
    await pool.draw(prompt, count, models, frozen, rng)
    if models.calibration is not None:
        for name in lacking:
            values = [r if r is not None and math.isfinite(r) else None for r in pool.rewards[name]]
            await models.calibration.keep(prompt, frozen, name, values)
    return Rollouts({**known, **{name: rank(values) for name, values in pool.rewards.items()}}, pool.cost)


async def missing(prompt: Prompt, count: int, models: Models, names: Sequence[str], sampling: Sampling) -> list[str]:
    """Return those of `names` that have fewer than `count` stored rollouts of this prompt."""
    known = await _stored(prompt, count, models, names, frozen_policy(sampling))
    return [name for name in names if name not in known]


async def _stored(
    prompt: Prompt, count: int, models: Models, names: Sequence[str], frozen: Sampling
) -> dict[str, Sequence[float]]:
    """Return the stored rollouts of each of `names` that has at least `count`, in order."""
    known: dict[str, Sequence[float]] = {}
    if models.calibration is not None:
        for name in names:
            stored = await models.calibration.stored(prompt, frozen, name)
            if len(stored) >= count:
                known[name] = rank(stored)
    return known


def frozen_policy(sampling: Sampling) -> Sampling:
    """How the frozen policy is sampled where a request asks for `sampling`: all that decides an answer's law."""
    return replace(sampling, guides={}, n=1, stream=False, logprobs=None, prompt_logprobs=None)
