"""Answers as types, for /openapi.json and its readers; the writers build them as plain dictionaries.

Exact: whoever adds a key to an answer adds it here, or the test that holds real answers against these models fails.
A field with a default may be absent; where null is written, the type says so.
"""

from typing import Any, Literal

from pydantic import Field

from server.http.schemas.reports import DecodingReport, Rewards, Told

FinishReason = Literal["stop", "length"]


class Usage(Told, frozen=True):
    prompt_tokens: int
    completion_tokens: int = Field(description="Every generated token, of all candidates.")
    total_tokens: int


class Columns(Told, frozen=True):
    """Log-probabilities of a completion, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Told, frozen=True):
    index: int
    text: str
    logprobs: Columns | None
    finish_reason: FinishReason | None
    stop_reason: str | int | None


class Completion(Told, frozen=True):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    decoding: DecodingReport | None = None


class CompletionChunk(Told, frozen=True):
    """One event of a stream; the last one carries `decoding`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    obfuscation: str | None = None
    decoding: DecodingReport | None = None


class ChatAlternative(Told, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(ChatAlternative, frozen=True):
    top_logprobs: list[ChatAlternative]


class ChatLogprobs(Told, frozen=True):
    content: list[ChatToken]
    refusal: None


class AssistantMessage(Told, frozen=True):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Told, frozen=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    stop_reason: str | int | None


class ChatCompletion(Told, frozen=True):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    decoding: DecodingReport | None = None


class Delta(Told, frozen=True):
    role: Literal["assistant"] | None = None
    content: str


class ChatChunkChoice(Told, frozen=True):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | int | None


class ChatCompletionChunk(Told, frozen=True):
    """One event of a stream; the last one carries `decoding`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    obfuscation: str | None = None
    decoding: DecodingReport | None = None


class ScoredCompletion(Told, frozen=True):
    index: int
    object: Literal["reward"]
    rewards: Rewards
    calibrated_rewards: Rewards | None = None
    total: float | None


class ScoringCost(Told, frozen=True):
    generated_tokens: int
    scored_tokens: int
    seconds: dict[str, float]


class RewardList(Told, frozen=True):
    object: Literal["list"]
    model: str
    data: list[ScoredCompletion]
    cost: ScoringCost


class ModelCard(Told, frozen=True):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(Told, frozen=True):
    object: Literal["list"]
    data: list[ModelCard]


class StrategyCard(Told, frozen=True):
    description: str
    json_schema: dict[str, Any] = Field(alias="schema")


class LoadedReward(Told, frozen=True):
    kind: str
    default: bool


class LoadedGuide(Told, frozen=True):
    kind: str


class StrategyList(Told, frozen=True):
    strategies: dict[str, StrategyCard]
    rewards: dict[str, LoadedReward]
    guides: dict[str, LoadedGuide]
    limits: dict[str, float]


class Health(Told, frozen=True):
    engines: dict[str, bool]


class Readiness(Told, frozen=True):
    ready: bool
    draining: bool
    engines: dict[str, bool]


class ErrorDetail(Told, frozen=True):
    message: str
    type: str
    param: str | None = Field(description="The dotted name of the field at fault.")
    code: str | None


class ErrorAnswer(Told, frozen=True):
    error: ErrorDetail
