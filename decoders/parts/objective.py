"""The one number that decides about a candidate, from its rewards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from decoders.core import Rewards
from decoders.events import Cost, ScoredCandidate
from decoders.maths.logmath import total
from decoders.maths.quantiles import leave_one_out
from decoders.maths.transforms import Identity, Phi


class QuantileReference(Protocol):
    """The samples that calibrated rewards are quantiles among."""

    @property
    def cost(self) -> Cost:
        """What it took to draw and score them."""

    @property
    def counts(self) -> Mapping[str, int] | None:
        """The number of samples for each reward, where they are samples of the policy beside the candidates."""

    def quantiles(self, rewards: Sequence[Rewards]) -> list[Rewards]:
        """Return the quantiles of each candidate's rewards, by name.

        The quantile is None of a reward that does not apply, and NaN of one that is not finite.
        """


@dataclass(frozen=True, slots=True)
class Peers:
    """The candidates themselves as each other's reference: each is compared with all the others."""

    cost: Cost = field(default_factory=Cost)
    counts: None = None

    def quantiles(self, rewards: Sequence[Rewards]) -> list[Rewards]:
        names = list(rewards[0]) if rewards else []
        columns = [leave_one_out([one[name] for one in rewards]) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class Objective:
    """sum_j weights[j] r_j, or with a reference sum_j weights[j] Phi(C_j), where C_j is the quantile of r_j.

    A reward that does not apply (None) is left out of the sum, which is not scaled up for it. The sum is NaN where a
    reward that applies, or Phi of its quantile, is not finite, where no reward applies, and where it is beyond the
    largest double: such a candidate cannot be chosen.
    """

    weights: Mapping[str, float]
    phi: Phi = field(default_factory=Identity)
    reference: QuantileReference | None = None

    @property
    def rollouts(self) -> Mapping[str, int] | None:
        """The number of rollouts behind each reward's quantiles."""
        return None if self.reference is None else self.reference.counts

    @property
    def cost(self) -> Cost:
        return Cost() if self.reference is None else self.reference.cost

    def judge(self, candidates: Sequence[ScoredCandidate]) -> list[ScoredCandidate]:
        """Return the candidates with their totals, and with their quantiles where rewards are calibrated."""
        if self.reference is None:
            return [replace(c, total=self._sum(c.rewards)) for c in candidates]
        quantiles = self.reference.quantiles([c.rewards for c in candidates])
        return [
            replace(c, total=self._sum({name: self._transformed(u) for name, u in own.items()}), calibrated=own)
            for c, own in zip(candidates, quantiles, strict=True)
        ]

    def level(self, judged: ScoredCandidate) -> float:
        """Return what a threshold is compared with: the sum of rewards, or of quantiles before Phi."""
        return self._sum(judged.rewards if judged.calibrated is None else judged.calibrated)

    def _transformed(self, u: float | None) -> float | None:
        return self.phi(u) if u is not None and math.isfinite(u) else u

    def _sum(self, values: Rewards) -> float:
        terms = [weight * value for name, weight in self.weights.items() if (value := values[name]) is not None]
        if self.weights and not terms:
            return math.nan
        return total(terms) if all(map(math.isfinite, terms)) else math.nan
