"""What a strategy says as it runs: tokens that are final, then an end with its results and what they took."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from decoders.core import Candidate, Rewards


@dataclass(frozen=True, slots=True)
class KL:
    """Divergence of the result's law from a reference law, in nats, and how the figure was come by.

    The reference is `policy`, the frozen policy's own law pi: temperature 1, nothing truncated, penalised, biased or
    constrained, no guides. Or it is `sampling`: pi as the request samples it, by temperature, top-p and the like.

    `pointwise` says that it is log p(y) - log reference(y) of this very answer, and not a bound or a mean: only such a
    figure adds to the divergence of a choice among answers of law p.
    """

    nats: float
    estimator: str
    pointwise: bool = False
    reference: Literal["policy", "sampling"] = "policy"


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion with its rewards by name, and the number that it is judged by; `aborted` before its end."""

    candidate: Candidate
    rewards: Rewards
    total: float
    calibrated: Rewards | None = None
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class VoteShare:
    """The answer that was read from a completion, if any, and its share of all the votes."""

    answer: str | None
    share: float


@dataclass(frozen=True, slots=True)
class Result:
    """One answer, and what is known of it."""

    candidate: Candidate
    rewards: Rewards = field(default_factory=dict)
    calibrated: Rewards | None = None
    kl: KL | None = None
    policy_logprob: float | None = None
    """log pi(y | x) under the frozen policy alone, at temperature 1, in nats."""
    draws: int | None = None
    rounds: int | None = None
    accepted: bool | None = None
    log_z: float | None = None
    """The estimate of log Z, the tilt's normaliser, that came with the answer."""
    vote: VoteShare | None = None
    tokens_saved: float | None = None
    """An estimate of the tokens that full best-of-N would have drawn besides."""
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

    def __add__(self, other: "Cost") -> "Cost":
        """One piece of work after the other."""
        return Cost(
            self.candidates + other.candidates,
            self.generated_tokens + other.generated_tokens,
            self.scored_tokens + other.scored_tokens,
            {p: self.seconds.get(p, 0.0) + other.seconds.get(p, 0.0) for p in {**self.seconds, **other.seconds}},
        )

    @classmethod
    def at_once(cls, costs: Sequence["Cost"], wall: float) -> "Cost":
        """Pieces of work that went on together for `wall` seconds: the longest generation of them, and the rest."""
        generate = min(wall, max((cost.seconds.get("generate", 0.0) for cost in costs), default=0.0))
        return replace(sum(costs, cls()), seconds={"generate": generate, "score": wall - generate})


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
    rollouts: Mapping[str, int] | None = None
    """Of each calibrated reward, the policy samples that its quantiles are among: the same ones for all results."""


Event = Step | Done
Run = AsyncGenerator[Event]
