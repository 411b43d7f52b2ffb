"""What turns the rewards of an answer into the one number that decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from decoders.core import Candidate
from decoders.events import Cost, Scored
from decoders.rollouts import Rollouts
from decoders.transforms import Identity, Phi


@dataclass(frozen=True, slots=True)
class Judge:
    """sum_j weights[j] r_j, or with a reference sum_j weights[j] Phi(C_j), C_j the quantile of r_j among its rollouts.

    Not finite where any of the rewards is not, or Phi of a quantile: such an answer is out.
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

    def scored(self, candidate: Candidate, rewards: Mapping[str, float]) -> Scored:
        calibrated = None if self.reference is None else self.reference.calibrated(rewards)
        return self.given(candidate, rewards, calibrated)

    def given(
        self, candidate: Candidate, rewards: Mapping[str, float], calibrated: Mapping[str, float] | None
    ) -> Scored:
        """As `scored`, with quantiles that come from elsewhere."""
        if calibrated is None:
            return Scored(candidate, rewards, self._sum(rewards))
        values = {name: self.phi(u) if math.isfinite(u) else math.nan for name, u in calibrated.items()}
        return Scored(candidate, rewards, self._sum(values), calibrated)

    def level(self, scored: Scored) -> float:
        """What a threshold is compared with: the sum of rewards, or of quantiles as they are before Phi."""
        return self._sum(scored.rewards if scored.calibrated is None else scored.calibrated)

    def _sum(self, values: Mapping[str, float]) -> float:
        terms = [weight * values[name] for name, weight in self.weights.items()]
        return math.fsum(terms) if all(map(math.isfinite, terms)) else math.nan
