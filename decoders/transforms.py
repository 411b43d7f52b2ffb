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
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from decoders.weights import INF


class Identity(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["identity"] = "identity"

    def __call__(self, u: float) -> float:
        return u


class Log(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["log"] = "log"

    def __call__(self, u: float) -> float:
        return math.log(u) if u > 0 else -INF


class Exponential(BaseModel, frozen=True, extra="forbid"):
    kind: Literal["exponential"] = "exponential"
    t: Annotated[float, Field(ge=-50, le=50, allow_inf_nan=False)] = 10.0

    def __call__(self, u: float) -> float:
        return math.copysign(math.exp(self.t * u), self.t)


Transform = Annotated[Identity | Log | Exponential, Field(discriminator="kind")]
Phi = Callable[[float], float]


def expected_draws(phi: Phi, beta: float) -> float:
    """Draws from the policy until one is accepted with probability exp((Phi(U) - Phi(1))/beta), U uniform; the mean."""
    mass = _integral(lambda u: math.exp(_log_acceptance(phi, beta, u)))
    return 1 / mass if mass > 0 else INF


def tilt_kl(phi: Phi, beta: float) -> float:
    """KL(pi exp(Phi(C)/beta)/Z || pi) for a reward without ties: the integral of f log f, in nats."""

    def moment(u: float) -> float:
        log_accept = _log_acceptance(phi, beta, u)
        accept = math.exp(log_accept)
        return accept * log_accept if accept > 0 else 0.0

    draws = expected_draws(phi, beta)
    return draws * _integral(moment) + math.log(draws)


def _log_acceptance(phi: Phi, beta: float, u: float) -> float:
    return (phi(u) - phi(1.0)) / beta  # each of the transforms rises, so 1 is the most


def _integral(f: Callable[[float], float], tolerance: float = 1e-9, depth: int = 40) -> float:
    """Over [0, 1], by Simpson's rule, halving intervals until that changes nothing: the mass may be all at one end."""

    def rule(a: float, fa: float, fm: float, fb: float, b: float) -> float:
        return (b - a) * (fa + 4 * fm + fb) / 6

    total: list[float] = []
    todo = [(0.0, 1.0, f(0.0), f(0.5), f(1.0), 0)]
    while todo:
        a, b, fa, fm, fb, level = todo.pop()
        m = (a + b) / 2
        left, right = f((a + m) / 2), f((m + b) / 2)
        once = rule(a, fa, fm, fb, b)
        twice = rule(a, fa, left, fm, m) + rule(m, fm, right, fb, b)
        # A few levels in any case: one interval's five points may all miss what is there.
        if level >= depth or (level >= 5 and abs(twice - once) <= 15 * tolerance * abs(twice)):
            total.append(twice + (twice - once) / 15)
        else:
            todo += [(a, m, fa, left, fm, level + 1), (m, b, fm, right, fb, level + 1)]
    return math.fsum(total)
