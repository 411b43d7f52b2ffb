"""The answers of /classify, /pooling and /score, in vLLM's shapes; fields in the order of the JSON."""

from typing import Generic, Literal, TypeVar

from pydantic import Field

from server.http.schemas.response_model import ResponseModel

T = TypeVar("T")


class PoolingUsage(ResponseModel, frozen=True):
    prompt_tokens: int = Field(description="Of all texts.")
    total_tokens: int
    completion_tokens: Literal[0]
    prompt_tokens_details: None
    completion_tokens_details: None


class OfTexts(ResponseModel, Generic[T], frozen=True):
    """What a reward says of each text."""

    id: str
    object: Literal["list"]
    created: int = Field(description="Unix time, in seconds.")
    model: str = Field(description="The reward's name.")
    data: list[T]
    usage: PoolingUsage


class Classified(ResponseModel, frozen=True):
    index: int
    label: str | None = Field(description="Of the greatest number; null where the model has no names.")
    probs: list[float] = Field(description="The model's outputs: probabilities, unless `use_activation` is false.")
    num_classes: int


class Classification(OfTexts[Classified], frozen=True):
    """Of /classify."""


class PooledText(ResponseModel, frozen=True):
    index: int
    object: Literal["pooling"]
    data: list[float] | list[list[float]] = Field(description="The model's outputs, for the text or for each token.")


class Pooling(OfTexts[PooledText], frozen=True):
    """Of /pooling."""


class ScoredPair(ResponseModel, frozen=True):
    index: int
    object: Literal["score"]
    score: float


class PairScores(OfTexts[ScoredPair], frozen=True):
    """Of /score."""
