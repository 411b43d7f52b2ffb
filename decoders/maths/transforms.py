"""Transforms of a calibrated reward [InfAlign: Balashankar et al. 2024], and what tilting by one does.

A calibrated reward C is uniform on [0, 1] under the policy where there are no ties, so the law pi exp(Phi(C)/beta)/Z is
known through its density f(u) = exp(Phi(u)/beta)/Z on [0, 1] alone, whatever the policy and the reward.

| kind        | Phi(u)             | suits                                                       |
|-------------|--------------------|-------------------------------------------------------------|
| identity    | u                  | the win rate of one answer                                  |
| log         | log u              | best-of-N's own tilt: u^(1/beta) is best of 1 + 1/beta       |
| exponential | sgn(t) exp(t u)    | best-of-N afterwards with t > 0, worst-of-N with t < 0      |
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from decoders.maths.logmath import INF


class Identity(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["identity"] = "identity"

    def __call__(self, u: float) -> float:
        return u

    def drop(self, d: float) -> float:
        """Return Phi(1) - Phi(1 - d), with all its digits for any small d."""
        return d


class Log(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["log"] = "log"

    def __call__(self, u: float) -> float:
        return math.log(u) if u > 0 else -INF

    def drop(self, d: float) -> float:
        """As `Identity.drop`."""
        return -math.log1p(-d)


class Exponential(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["exponential"] = "exponential"
    t: Annotated[float, Field(ge=-50, le=50, allow_inf_nan=False)] = 10.0

    def __call__(self, u: float) -> float:
        return math.copysign(math.exp(self.t * u), self.t)

    def drop(self, d: float) -> float:
        """As `Identity.drop`."""
        return -math.copysign(math.exp(self.t), self.t) * math.expm1(-self.t * d)


Transform = Annotated[Identity | Log | Exponential, Field(discriminator="kind")]
Phi = Callable[[float], float]


def expected_draws(phi: Transform, beta: float) -> float:
    """Return the mean number of draws until one is accepted with probability exp((Phi(U) - Phi(1))/beta), U uniform."""
    mass, _ = _tilt(phi, beta)
    return 1 / mass if mass > 0 else INF


def tilt_kl(phi: Transform, beta: float) -> float:
    """Return KL(pi exp(Phi(C)/beta)/Z || pi), in nats, for a reward without ties: the integral of f log f."""
    mass, moment = _tilt(phi, beta)
    return max(0.0, moment / mass - math.log(mass)) if mass > 0 else INF


def _tilt(phi: Transform, beta: float) -> tuple[float, float]:
    """Return the integrals of a and of a log a over [0, 1], for the acceptance a(u) = exp((Phi(u) - Phi(1))/beta).

    They are taken over d = 1 - u. Since Phi rises, the mass lies next to d = 0, perhaps nearer to it than doubles lie
    to 1. Gauss-Legendre's rule on pieces that halve towards both ends finds it, however narrow it is.
    """
    masses, moments = [], []
    for low, high in pairwise(_PIECES):
        half = (high - low) / 2
        for x, w in _GAUSS:
            log_a = -phi.drop(low + half * (1 + x)) / beta
            a = math.exp(log_a)
            masses.append(w * half * a)
            moments.append(w * half * a * log_a if a > 0 else 0.0)
    return math.fsum(masses), math.fsum(moments)


_PIECES = (
    0.0,
    *(2.0**-k for k in range(200, 5, -1)),  # halving towards d = 0
    *(k / 64 for k in range(2, 64)),
    *(1 - 2.0**-k for k in range(7, 50)),  # and towards d = 1, where the logarithm tends to -inf
    1 - 2.0**-52,
)
# Nodes on [-1, 1] with their weights, of the rule with ten points: exact for polynomials up to degree 19.
_GAUSS = tuple(
    (sign * x, w)
    for x, w in (
        (0.14887433898163122, 0.29552422471475287),
        (0.4333953941292472, 0.26926671930999635),
        (0.6794095682990244, 0.21908636251598204),
        (0.8650633666889845, 0.1494513491505806),
        (0.9739065285171717, 0.06667134430868814),
    )
    for sign in (-1.0, 1.0)
)
