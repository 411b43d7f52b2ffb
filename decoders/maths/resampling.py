"""Resampling of weighted particles."""

import itertools
import math
from collections.abc import Sequence

from decoders.core import Rng
from decoders.maths.logmath import logsumexp


def effective_sample_size(log_weights: Sequence[float]) -> float:
    """Return (sum w)^2 / sum w^2."""
    return math.exp(2 * logsumexp(log_weights) - logsumexp([2 * v for v in log_weights]))


def systematic(probabilities: Sequence[float], rng: Rng) -> list[int]:
    """Return len(probabilities) parents: those at which (u + k)/P falls in the cumulative sum, for one uniform u.

    As u runs from 0 to 1 the parents change only where it passes the fraction of some P * (cumulative sum), so drawing
    the interval between two such points draws u as far as it matters, and exactly.
    """
    count = len(probabilities)
    sums = [count * s for s in itertools.accumulate(probabilities)]
    ends = sorted({0.0, 1.0, *(s % 1.0 for s in sums[:-1])})
    intervals = list(itertools.pairwise(ends))
    last = max(p for p, share in enumerate(probabilities) if share > 0)  # rounding must not bring back weight zero
    low, high = intervals[rng.draw([math.log(b - a) for a, b in intervals])]
    u = (low + high) / 2
    parents, p = [], 0
    for k in range(count):
        while p < last and u + k >= sums[p]:
            p += 1
        parents.append(p)
    return parents
