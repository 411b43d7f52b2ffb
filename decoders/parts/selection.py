"""Rules of choice: each turns rewards into the log-weights of a draw, ties sharing alike.

| rule        | P(i)                                                                     |
|-------------|--------------------------------------------------------------------------|
| argmax      | uniform over the greatest                                                |
| argmin      | uniform over the least: worst-of-N, InfAlign's jailbreak evaluation      |
| softmax     | ∝ exp(r_i / beta): self-normalised importance resampling towards pi*     |
| pessimistic | ∝ relu((r_i - lam) / beta), lam such that the mean is one [Huang 2025]   |
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from decoders.core import Rng
from decoders.maths.logmath import INF, pessimistic_root, scaled

# Rewards are divided by it: below 1e-12 it would only say that a double's last digits decide.
Beta = Annotated[float, Field(ge=1e-12, le=1e6, allow_inf_nan=False, description="KL temperature, in reward units")]


class Argmax(BaseModel, frozen=True, extra="forbid"):
    """The greatest reward."""

    by: Literal["argmax"] = "argmax"

    def log_weights(self, rewards: Sequence[float]) -> list[float]:
        best = max(rewards)
        return [0.0 if r == best else -INF for r in rewards]


class Argmin(BaseModel, frozen=True, extra="forbid"):
    """The least reward: worst-of-N."""

    by: Literal["argmin"] = "argmin"

    def log_weights(self, rewards: Sequence[float]) -> list[float]:
        worst = min(rewards)
        return [0.0 if r == worst else -INF for r in rewards]


class Softmax(BaseModel, frozen=True, extra="forbid"):
    """A draw with weights exp(r / beta); its law tends to pi exp(r / beta) / Z as N grows."""

    by: Literal["softmax"] = "softmax"
    beta: Beta = 1.0

    def log_weights(self, rewards: Sequence[float]) -> list[float]:
        return scaled(rewards, self.beta)


class Pessimistic(BaseModel, frozen=True, extra="forbid"):
    """Inference-time pessimism: a draw whose quality does not fall as N grows under a reward with errors."""

    by: Literal["pessimistic"] = "pessimistic"
    beta: Beta = 1.0

    def log_weights(self, rewards: Sequence[float]) -> list[float]:
        best = max(rewards)  # differences first: a beta below the rewards' last digit must not vanish
        gaps = [r - best for r in rewards]
        lam = pessimistic_root(gaps, self.beta)
        return [math.log((gap - lam) / self.beta) if gap > lam else -INF for gap in gaps]


def coin(log_p: float, rng: Rng) -> bool:
    """Return True with probability exp(log_p), for log_p <= 0."""
    return rng.draw([log_p, math.log(-math.expm1(log_p)) if log_p < 0 else -INF]) == 0
