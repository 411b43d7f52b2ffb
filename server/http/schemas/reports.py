"""The `decoding` object of an answer, as `server.http.report` builds it.

A field with a default may be absent; where null is written, the type says so.
"""

from typing import Any, Literal

from pydantic import Field, create_model

from decoders import STRATEGIES
from server.http.schemas.response_model import ResponseModel
from server.http.schemas.tool_calls import ToolCall

Rewards = dict[str, float | None]
"""By the reward's name; null where it is not a finite number."""


class KLReport(ResponseModel, frozen=True):
    """A divergence from the law that `reference` names."""

    nats: float
    estimator: str = Field(description="How the figure was come by: exact, an estimate, or a bound.")
    reference: Literal["policy", "sampling"] = Field(
        description="The frozen policy's own law, or that after this request's temperature, top-p and the like."
    )


class CalibrationReport(ResponseModel, frozen=True):
    """What the quantiles of a result stand on."""

    rollouts: dict[str, int] = Field(description="Samples of the policy that each reward is a quantile among.")
    shared: bool = Field(description="Whether further results of this prompt go by the same samples.")


class ResultBase(ResponseModel, frozen=True):
    """How one choice was chosen, whatever the strategy."""

    rewards: Rewards
    calibrated_rewards: Rewards | None = None
    calibration: CalibrationReport | None = None
    mean_rewards: Rewards | None = Field(None, description="Over the candidates that it was chosen from.")


_MEASURED: dict[str, Any] = {
    "kl": (KLReport | None, Field(None, description="Where return_kl asks for it; null where it is not known.")),
    "policy_logprob": (float | None, Field(None, description="log pi(y|x) under the frozen policy, in nats.")),
}


def _diagnostics() -> dict[str, Any]:
    """Return the fields of every strategy's diagnostics, each optional here, described by strategy."""
    kinds: dict[str, Any] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for strategy in STRATEGIES:
        for name, field in strategy.info.model_fields.items() if strategy.info else ():
            assert kinds.setdefault(name, field.annotation) == field.annotation, f"two strategies differ about `{name}`"
            named = texts.setdefault(name, {}).setdefault(field.description or "", [])
            named.append(strategy.model_fields["strategy"].default)
    return {
        name: (
            kind | None,
            Field(None, description=" ".join(f"{', '.join(by)}: {text}" for text, by in texts[name].items())),
        )
        for name, kind in kinds.items()
    }


ResultReport: type[ResultBase] = create_model(
    "ResultReport", __base__=ResultBase, __doc__="How one choice was chosen.", **_diagnostics(), **_MEASURED
)


class CandidateReport(ResponseModel, frozen=True):
    """One completion that was drawn and judged."""

    prompt: int = Field(description="Of which prompt of the request, from 0.")
    index: int
    text: str = Field(description="Without the reasoning, where the server tells it apart.")
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = Field(None, description="Present if it calls tools.")
    tokens: int
    finish_reason: str | None
    rewards: Rewards
    calibrated_rewards: Rewards | None = None
    chosen: bool
    aborted: bool | None = Field(None, description="It was given up before its end.")


class CostReport(ResponseModel, frozen=True):
    candidates: int
    generated_tokens: int
    returned_tokens: int
    scored_tokens: int
    seconds: dict[str, float] = Field(description="Wall time by phase: queue, generate, score, select.")


class DecodingReport(ResponseModel, frozen=True):
    """What the answer cost, and how it was chosen."""

    strategy: str
    results: list[ResultReport] = Field(description="In the order of the choices.")
    cost: CostReport
    candidates: list[CandidateReport] | None = None
    warnings: list[str] | None = Field(None, description="Names of an older release that the request used.")


class KeptReport(ResponseModel, frozen=True):
    """The report of an earlier answer, without its candidates."""

    object: Literal["report"]
    id: str = Field(description="The answer's.")
    created: int = Field(description="Unix time of the answer, in seconds.")
    model: str
    decoding: DecodingReport
