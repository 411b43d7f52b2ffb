"""What a strategy says as it runs: tokens that are final, then an end with its results and what they took."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from decoders.core import Candidate


@dataclass(frozen=True, slots=True)
class KL:
    """Divergence of the result's law from the policy's, in nats, and how the figure was come by."""

    nats: float
    estimator: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion with its rewards by name, and their weighted sum."""

    candidate: Candidate
    rewards: Mapping[str, float]
    total: float
    calibrated: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One answer, and what is known of it."""

    candidate: Candidate
    rewards: Mapping[str, float] = field(default_factory=dict)
    calibrated: Mapping[str, float] | None = None
    kl: KL | None = None
    policy_logprob: float | None = None
    """log pi(y | x) under the frozen policy alone, at the request's temperature, in nats."""
    draws: int | None = None
    rounds: int | None = None
    accepted: bool | None = None
    log_z: float | None = None
    """The estimate of log Z, the tilt's normaliser, that came with the answer."""
    pool_mean: Mapping[str, float] | None = None
    """Mean of each reward over the candidates that this result was chosen from."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run spent. `seconds` by phase adds up to the run's wall time: scoring that overlapped generation
    is inside `generate`, and `score` is the wait after the last candidate."""

    candidates: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens of result `index` that are final: they can be sent to the client."""

    piece: Candidate
    index: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a run: a result per choice, in order, and the candidates they were chosen from."""

    results: tuple[Result, ...]
    cost: Cost
    candidates: tuple[Scored, ...] = ()
    chosen: tuple[int, ...] = ()


Event = Step | Done
Run = AsyncGenerator[Event]
