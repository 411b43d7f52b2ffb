"""What turns the rewards of an answer into the one number that decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from decoders.core import Candidate, Rewards
from decoders.events import Cost, Scored
from decoders.maths.logmath import total
from decoders.maths.transforms import Identity, Phi
from decoders.parts.rollouts import Rollouts


@dataclass(frozen=True, slots=True)
class Objective:
    """sum_j weights[j] r_j, or with a reference sum_j weights[j] Phi(C_j), C_j the quantile of r_j among its rollouts.

    A reward that does not apply (None) is left out of the sum, which is not scaled up for it. The sum is not finite
    where a reward that does apply is not, or Phi of its quantile, or where none applies, or where it is beyond the
    largest double: such an answer is out.
    """

    weights: Mapping[str, float]
    phi: Phi = field(default_factory=Identity)
    reference: Rollouts | None = None

    @property
    def names(self) -> list[str]:
        return list(self.weights)

    @property
    def cost(self) -> Cost:
        return Cost() if self.reference is None else self.reference.cost

    @property
    def rollouts(self) -> dict[str, int] | None:
        """The number of rollouts behind each reward's quantiles."""
        if self.reference is None:
            return None
        return {name: len(ranked) for name, ranked in self.reference.ranked.items()}

    def scored(self, candidate: Candidate, rewards: Rewards) -> Scored:
        calibrated = None if self.reference is None else self.reference.calibrated(rewards)
        return self.given(candidate, rewards, calibrated)

    def given(self, candidate: Candidate, rewards: Rewards, calibrated: Rewards | None) -> Scored:
        """As `scored`, with quantiles that come from elsewhere."""
        if calibrated is None:
            return Scored(candidate, rewards, self._sum(rewards))
        values: dict[str, float | None] = {}
        for name, u in calibrated.items():
            values[name] = self.phi(u) if u is not None and math.isfinite(u) else u
        return Scored(candidate, rewards, self._sum(values), calibrated)

    def level(self, scored: Scored) -> float:
        """What a threshold is compared with: the sum of rewards, or of quantiles as they are before Phi."""
        return self._sum(scored.rewards if scored.calibrated is None else scored.calibrated)

    def _sum(self, values: Rewards) -> float:
        terms = [weight * value for name, weight in self.weights.items() if (value := values[name]) is not None]
        if self.weights and not terms:
            return math.nan
        return total(terms) if all(map(math.isfinite, terms)) else math.nan
