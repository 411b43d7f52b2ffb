"""The answers about the server itself (models, strategies, health), and errors; fields in the order of the JSON."""

from typing import Any, Literal

from pydantic import Field

from server.http.schemas.response_model import ResponseModel


class ModelCard(ResponseModel, frozen=True):
    id: str
    object: Literal["model"]
    created: int = Field(description="Unix time of the server's start, in seconds.")
    owned_by: str
    root: str = Field(description="The model that answers: the policy's name.")
    parent: str | None = Field(description="Of a preset: the policy's name. Null for the policy itself.")
    max_model_len: int = Field(description="Tokens of prompt and completion together.")
    decoding: dict[str, Any] | None = Field(None, description="Of a preset: the `decoding` that it stands for.")
    law: str | None = Field(None, description="Of a preset: the law that its strategy samples, and its KL.")


class ModelList(ResponseModel, frozen=True):
    object: Literal["list"]
    data: list[ModelCard]


class StrategyCard(ResponseModel, frozen=True):
    description: str = Field(description="The algorithm, the law that it samples, and the paper.")
    json_schema: dict[str, Any] = Field(alias="schema", description="The JSON schema of the strategy's `decoding`.")


class LoadedReward(ResponseModel, frozen=True):
    kind: str
    default: bool = Field(description="Whether a request that names no reward gets this one.")


class LoadedGuide(ResponseModel, frozen=True):
    kind: str


class Limits(ResponseModel, frozen=True):
    """Bounds on a request: the server's settings, a guide's weight, and the model's context."""

    guide_weight: float = Field(description="A guide's weight is between minus this and this.")
    max_sequences: int
    max_queue: int
    max_prompts: int
    max_candidates: int
    max_generated_tokens: int
    request_timeout_s: float
    max_model_len: int = Field(description="Tokens of prompt and completion together.")


class StrategyList(ResponseModel, frozen=True):
    strategies: dict[str, StrategyCard]
    rewards: dict[str, LoadedReward]
    guides: dict[str, LoadedGuide]
    limits: Limits


class Health(ResponseModel, frozen=True):
    engines: dict[str, bool] = Field(description="Whether each engine is alive, by its name.")


class Version(ResponseModel, frozen=True):
    version: str = Field(description="Decant's.")
    engine: str | None = Field(description="Which vLLM is installed, such as `vllm 0.32.0`; null without one.")


class Readiness(ResponseModel, frozen=True):
    ready: bool
    draining: bool
    engines: dict[str, bool]


class ErrorDetail(ResponseModel, frozen=True):
    message: str
    type: str
    param: str | None = Field(description="The dotted name of the field at fault.")
    code: str | None = Field(description="See the table below.")


class ErrorAnswer(ResponseModel, frozen=True):
    error: ErrorDetail
