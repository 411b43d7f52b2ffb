"""The calibrated reward [InfAlign: Balashankar et al. 2024]: a reward as its quantile under the policy.

    C(x, y) = P_{z ~ pi}( r(x, y) > r(x, z) ) + 1/2 P( r(x, y) = r(x, z) )

in [0, 1], and uniform under the policy where there are no ties. Estimated from K rollouts of the same prompt.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def leave_one_out(rewards: Sequence[float | None]) -> list[float | None]:
    """Return C of each reward among the others; None for a reward that does not apply."""
    ranked = rank(rewards)
    return [None if r is None else quantile(r, ranked, 1) for r in rewards]


def rank(rewards: Sequence[float | None]) -> list[float]:
    """Return the finite rewards in rising order, for `quantile` to look up."""
    return sorted(r for r in rewards if r is not None and math.isfinite(r))


def quantile(reward: float, ranked: Sequence[float], own: int = 0) -> float:
    """Return C of one reward among others; NaN for one that is not finite, .5 where there are no others.

    Args:
        reward: The reward.
        ranked: The others in rising order, and perhaps the reward itself.
        own: How many times the reward itself is in `ranked`.
    """
    if not math.isfinite(reward):
        return math.nan
    others = len(ranked) - own
    if others == 0:  # the prior mean
        return 0.5
    below = bisect_left(ranked, reward)
    tied = bisect_right(ranked, reward) - below - own
    return (below + tied / 2) / others
