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
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from decoders.weights import INF, logsumexp

GRID = 4096  # midpoints of the quadrature


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


def expected_draws(phi: Identity | Log | Exponential, beta: float) -> float:
    """Draws from the policy until one is accepted with probability exp((Phi(U) - Phi(1))/beta), U uniform; the mean."""
    top = phi(1.0)  # each of the transforms rises
    return math.exp(-(logsumexp([(phi(u) - top) / beta for u in _grid()]) - math.log(GRID)))


def tilt_kl(phi: Identity | Log | Exponential, beta: float) -> float:
    """KL(pi exp(Phi(C)/beta)/Z || pi) for a reward without ties: the integral of f log f, in nats."""
    logs = [phi(u) / beta for u in _grid()]
    z = logsumexp(logs)
    return math.fsum(math.exp(v - z) * (v - z + math.log(GRID)) for v in logs)


def _grid() -> list[float]:
    return [(i + 0.5) / GRID for i in range(GRID)]
