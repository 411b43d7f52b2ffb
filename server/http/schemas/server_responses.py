"""The answers about the server itself (models, strategies, health), and errors; fields in the order of the JSON."""

from typing import Any, Literal

from pydantic import Field

from server.http.schemas.response_model import ResponseModel


class ModelCard(ResponseModel, frozen=True):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(ResponseModel, frozen=True):
    object: Literal["list"]
    data: list[ModelCard]


class StrategyCard(ResponseModel, frozen=True):
    description: str
    json_schema: dict[str, Any] = Field(alias="schema")


class LoadedReward(ResponseModel, frozen=True):
    kind: str
    default: bool


class LoadedGuide(ResponseModel, frozen=True):
    kind: str


class Limits(ResponseModel, frozen=True):
    """The server's bounds on a request; each is a field of the settings, but for the first and the last."""

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
    engines: dict[str, bool]


class Readiness(ResponseModel, frozen=True):
    ready: bool
    draining: bool
    engines: dict[str, bool]


class ErrorDetail(ResponseModel, frozen=True):
    message: str
    type: str
    param: str | None = Field(description="The dotted name of the field at fault.")
    code: str | None


class ErrorAnswer(ResponseModel, frozen=True):
    error: ErrorDetail
