"""What a strategy yields as it runs: final tokens, then one end with its results and their cost."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from pydantic import BaseModel

from decoders.core import Candidate, Rewards


@dataclass(frozen=True, slots=True)
class KL:
    """KL divergence of a result's law from a reference law, in nats, and the estimator that gave the figure.

    The reference is `policy`, the frozen policy's own law pi: temperature 1, no guides, nothing truncated, penalised,
    biased or constrained. Or it is `sampling`: pi as the request samples it, by temperature, top-p and the like.

    `pointwise` marks log p(y) - log reference(y) of this very answer, as opposed to a bound or a mean. Only a pointwise
    figure may be added to the divergence of a choice among draws of p.
    """

    nats: float
    estimator: str
    pointwise: bool = False
    reference: Literal["policy", "sampling"] = "policy"


class Info(BaseModel, frozen=True, extra="forbid"):
    """A strategy's own diagnostics of one result; each strategy that has any defines its fields in a subclass.

    The fields become part of the result's report over HTTP under their own names. None leaves a field out.
    """


I = TypeVar("I", bound=Info)  # noqa: E741


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A completion on its way through a strategy: drawn, then scored by each reward, then judged by the objective.

    `rewards` has the raw rewards by name, `calibrated` their quantiles where the request asks for these. `total` is the
    number that decides, NaN until the objective has judged the candidate, and not finite where it cannot be chosen.
    `aborted` marks a candidate that was given up before its end. `proposal` is the result of another strategy that the
    candidate was taken from, if any.
    """

    candidate: Candidate
    rewards: Rewards = field(default_factory=dict)
    total: float = float("nan")
    calibrated: Rewards | None = None
    aborted: bool = False
    proposal: "Result | None" = None


@dataclass(frozen=True, slots=True)
class Result:
    """One answer, and what is known of it.

    `policy_logprob` is log pi(y | x) under the frozen policy at temperature 1, in nats. `mean_rewards` has the mean of
    each reward over the candidates that the answer was chosen from.
    """

    scored: ScoredCandidate
    kl: KL | None = None
    policy_logprob: float | None = None
    mean_rewards: Mapping[str, float] | None = None
    info: Info | None = None

    @property
    def candidate(self) -> Candidate:
        return self.scored.candidate

    @property
    def rewards(self) -> Rewards:
        return self.scored.rewards

    @property
    def calibrated(self) -> Rewards | None:
        return self.scored.calibrated

    def diagnostics(self, kind: type[I]) -> I:
        """Return `info` as the strategy's own type of it. Raise `TypeError` where it is of another type."""
        if not isinstance(self.info, kind):
            raise TypeError(f"this result has {type(self.info).__name__}, and no {kind.__name__}")
        return self.info


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run spent.

    `seconds` by phase adds up to the run's wall time. Scoring that overlaps generation is inside `generate`; `score` is
    the wait after the last candidate was drawn.
    """

    candidates: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of two pieces of work, one after the other."""
        return Cost(
            self.candidates + other.candidates,
            self.generated_tokens + other.generated_tokens,
            self.scored_tokens + other.scored_tokens,
            {p: self.seconds.get(p, 0.0) + other.seconds.get(p, 0.0) for p in {**self.seconds, **other.seconds}},
        )

    @classmethod
    def concurrent(cls, costs: Sequence["Cost"], wall: float) -> "Cost":
        """Return the cost of work that ran at the same time for `wall` seconds.

        The phase `generate` is as long as the longest of them, and `score` is the rest of the wall time.
        """
        generate = min(wall, max((cost.seconds.get("generate", 0.0) for cost in costs), default=0.0))
        return replace(sum(costs, cls()), seconds={"generate": generate, "score": wall - generate})


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens of result `index` that are final: they can be sent to the client."""

    piece: Candidate
    index: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a run: its results in order, and the candidates that they were chosen from.

    `chosen` has the place of each result among `candidates`. `rollouts` is, by calibrated reward, the number of policy
    samples that its quantiles are taken among; all results share these samples.
    """

    results: tuple[Result, ...]
    cost: Cost
    candidates: tuple[ScoredCandidate, ...] = ()
    chosen: tuple[int, ...] = ()
    rollouts: Mapping[str, int] | None = None


Event = Step | Done
Run = AsyncGenerator[Event]
