"""The answers to completions, chat completions and rewards; the fields stand in the order of the JSON.

A field with a default may be absent from an answer. A type that allows None means that null is written.
"""

from typing import Literal

from pydantic import Field

from server.http.schemas.reports import DecodingReport, Rewards
from server.http.schemas.response_model import ResponseModel

FinishReason = Literal["stop", "length"]


class Usage(ResponseModel, frozen=True):
    prompt_tokens: int
    completion_tokens: int = Field(description="Every generated token, of all candidates.")
    total_tokens: int


class CompletionLogprobs(ResponseModel, frozen=True):
    """Log-probabilities of a completion; each list has one entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(ResponseModel, frozen=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | int | None


class AnswerHead(ResponseModel, frozen=True):
    """What every answer and every chunk of a stream begins with."""

    id: str
    created: int = Field(description="Unix time, in seconds.")
    model: str


class Completion(AnswerHead, frozen=True):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage
    decoding: DecodingReport | None = None


class CompletionChunk(AnswerHead, frozen=True):
    """One event of a stream; the last one carries `decoding`."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage | None = None
    decoding: DecodingReport | None = None
    obfuscation: str | None = Field(None, description="Padding; see `stream_options.include_obfuscation`.")


class ChatAlternative(ResponseModel, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(ChatAlternative, frozen=True):
    top_logprobs: list[ChatAlternative]


class ChatLogprobs(ResponseModel, frozen=True):
    content: list[ChatToken]
    refusal: None


class AssistantMessage(ResponseModel, frozen=True):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(ResponseModel, frozen=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    stop_reason: str | int | None


class ChatCompletion(AnswerHead, frozen=True):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    decoding: DecodingReport | None = None


class Delta(ResponseModel, frozen=True):
    role: Literal["assistant"] | None = None
    content: str


class ChatChunkChoice(ResponseModel, frozen=True):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | int | None


class ChatCompletionChunk(AnswerHead, frozen=True):
    """One event of a stream; the last one carries `decoding`."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    decoding: DecodingReport | None = None
    obfuscation: str | None = Field(None, description="Padding; see `stream_options.include_obfuscation`.")


class ScoredCompletion(ResponseModel, frozen=True):
    index: int
    object: Literal["reward"]
    rewards: Rewards
    calibrated_rewards: Rewards | None = None
    total: float | None


class ScoringCost(ResponseModel, frozen=True):
    generated_tokens: int
    scored_tokens: int
    seconds: dict[str, float]


class RewardList(ResponseModel, frozen=True):
    object: Literal["list"]
    model: str
    data: list[ScoredCompletion]
    cost: ScoringCost
