"""A population of weighted particles, as sequential Monte Carlo grows it."""

import math
import sys
from dataclasses import dataclass, field

from decoders.core import EMPTY, Candidate, Rng
from decoders.errors import NoUsableReward
from decoders.events import ScoredCandidate
from decoders.maths.logmath import INF, logsumexp, normalise, scaled
from decoders.maths.resampling import effective_sample_size, systematic


@dataclass
class Population:
    """P particles with weights exp((V now - V then) / beta) since the last resampling.

    In between two resamplings the weights telescope, so the V are kept, in the reward's units, with -inf for weight
    zero. Only their differences are divided by beta, so that no beta makes them overflow.

    `values` has V of each particle as it stands, 0 for an empty one, and `bases` V at the last resampling, at which
    the estimate of log Z was level / beta + log_ratio.
    """

    size: int
    beta: float
    particles: list[ScoredCandidate] = field(init=False)
    values: list[float] = field(init=False)
    bases: list[float] = field(init=False)
    level: float = 0.0
    log_ratio: float = 0.0
    rounds: int = 0

    def __post_init__(self) -> None:
        self.particles = [ScoredCandidate(EMPTY)] * self.size
        self.values = [0.0] * self.size
        self.bases = [0.0] * self.size

    @property
    def open(self) -> list[int]:
        return [p for p, particle in enumerate(self.particles) if particle.candidate.finish is None]

    def groups(self) -> list[list[int]]:
        """Return the unfinished particles, equal ones together: one engine request extends those, and shares their
        prefix."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for p in self.open:
            groups.setdefault(self.particles[p].candidate.tokens, []).append(p)
        return list(groups.values())

    def prefix(self, group: list[int]) -> Candidate:
        return self.particles[group[0]].candidate

    def weigh(self, p: int, grown: ScoredCandidate) -> None:
        """Put `grown` in the place of particle `p`.

        A finished particle without a finite total gets weight zero; an unfinished one keeps the weight that it has.
        """
        if math.isfinite(grown.total):
            self.values[p] = grown.total
        elif grown.candidate.finish:
            self.values[p] = -INF
        self.particles[p] = grown

    def log_weights(self) -> list[float]:
        """Return the log-weights, the greatest being 0. Raise `NoUsableReward` if all weights are zero."""
        rises = self._rises()
        if max(rises) == -INF:
            raise NoUsableReward(f"None of {self.size} particles has a finite reward.")
        return scaled(rises, self.beta)

    def resample(self, threshold: float, rng: Rng) -> None:
        """Resample systematically where the effective sample size is below `threshold` P and particles go on."""
        self.rounds += 1
        log_weights = self.log_weights()
        if not self.open or effective_sample_size(log_weights) >= threshold * self.size:
            return
        parents = systematic(normalise(log_weights), rng)
        self.settle()
        self.particles = [self.particles[p] for p in parents]
        self.values = [self.values[p] for p in parents]
        self.bases = list(self.values)

    def settle(self) -> None:
        """Take the mean weight since the last resampling into the estimate of Z."""
        self.level = _difference(self.level, -max(self._rises()))
        self.log_ratio += logsumexp(self.log_weights()) - math.log(self.size)

    @property
    def log_z(self) -> float:
        """The estimate of log Z as it was last settled."""
        return self.level / self.beta + self.log_ratio

    def log_tilt(self, p: int) -> float:
        """Return V/beta - log Z of particle `p`."""
        return (self.values[p] - self.level) / self.beta - self.log_ratio

    def _rises(self) -> list[float]:
        """Return how far V has risen since the last resampling."""
        return [_difference(now, then) for now, then in zip(self.values, self.bases, strict=True)]


def _difference(a: float, b: float) -> float:
    """Return a - b for finite b, held within the doubles; -inf stays."""
    return a if a == -INF else min(max(a - b, -sys.float_info.max), sys.float_info.max)
