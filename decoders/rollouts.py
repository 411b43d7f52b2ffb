"""The rewards of policy samples that a calibrated reward is a quantile among: stored ones, or fresh ones, then kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from decoders.calibration import calibrate
from decoders.core import Models, Prompt, Rng, Sampling
from decoders.pool import Pool


@dataclass
class Rollouts:
    """Rewards of samples of one prompt from the frozen policy, by name, and what it took to draw those that were not
    stored."""

    rewards: Mapping[str, Sequence[float]]
    drawn: Pool = field(default_factory=lambda: Pool({}))

    def calibrated(self, rewards: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """C of each of `rewards[name]`."""
        return {name: calibrate(values, self.rewards[name]) for name, values in rewards.items()}


async def rollouts(
    count: int, prompt: Prompt, models: Models, weights: Mapping[str, float], sampling: Sampling, rng: Rng
) -> Rollouts:
    """At least `count` rewards of each name, from the store where it has them; guides do not matter to what pi is."""
    frozen = replace(sampling, guides={}, n=1, stream=False, logprobs=None, prompt_logprobs=None)
    known: dict[str, Sequence[float]] = {}
    if models.calibration is not None:
        for name in weights:
            stored = await models.calibration.stored(prompt, frozen, name)
            if len(stored) >= count:
                known[name] = stored
    missing = {name: weight for name, weight in weights.items() if name not in known}
    pool = Pool(missing)
    if missing:
        await pool.draw(prompt, count, models, frozen, rng)
        if models.calibration is not None:
            for name in missing:
                await models.calibration.keep(prompt, frozen, name, pool.rewards[name])
    return Rollouts({**known, **pool.rewards}, pool)
