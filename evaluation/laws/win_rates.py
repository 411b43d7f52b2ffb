"""Win rates of a policy tilted by a calibrated reward, in closed form, for rewards without ties.

They are those of InfAlign [Balashankar et al. 2024].

Let f(u) = exp(Phi(u)/beta)/Z be the density of quantiles under the tilted policy, and F its distribution function:

    best of N against the policy's own best of N:     1 - N int F^N u^(N-1) du
    worst of N against the policy's own worst of N:   N int (1-F)^N (1-u)^(N-1) du
"""

import math
from collections.abc import Callable

from scipy.integrate import quad
from scipy.optimize import brentq

from decoders.maths.transforms import Transform, tilt_kl

Density = Callable[[float], float]


def best_of_n_win_rate(phi: Transform, beta: float, n: int) -> float:
    """Return P(the best of `n` tilted answers beats the best of `n` of the policy's)."""
    cdf = _cdf(phi, beta)
    return 1 - n * _integral(lambda u: cdf(u) ** n * u ** (n - 1))


def worst_of_n_win_rate(phi: Transform, beta: float, n: int) -> float:
    """Return P(the worst of `n` tilted answers beats the worst of `n` of the policy's)."""
    cdf = _cdf(phi, beta)
    return n * _integral(lambda u: (1 - cdf(u)) ** n * (1 - u) ** (n - 1))


def beta_at(phi: Transform, nats: float) -> float:
    """Return the beta at which KL(tilted policy || policy) is `nats`."""
    low, high = math.log(1e-6), math.log(1e6)
    return math.exp(brentq(lambda b: tilt_kl(phi, math.exp(b) * _spread(phi)) - nats, low, high)) * _spread(phi)


def _spread(phi: Transform) -> float:
    """Return how far phi ranges, as a scale for beta."""
    low, high = phi(1e-3), phi(1.0)
    return high - low


def _cdf(phi: Transform, beta: float) -> Density:
    def density(u: float) -> float:
        return math.exp((phi(u) - phi(1.0)) / beta)

    z = _integral(density)
    return lambda u: quad(density, 0, u, limit=200)[0] / z


def _integral(f: Density) -> float:
    return float(quad(f, 0, 1, limit=200)[0])
