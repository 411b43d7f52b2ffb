"""The answers to completions, chat completions and rewards; the fields stand in the order of the JSON.

A field with a default may be absent from an answer. A type that allows None means that null is written.
"""

from typing import Literal

from pydantic import Field

from server.http.schemas.reports import DecodingReport, Rewards
from server.http.schemas.response_model import ResponseModel
from server.http.schemas.tool_calls import ToolCall, ToolCallDelta
from server.http.schemas.usage import Usage

FinishReason = Literal["stop", "length"]
ChatFinishReason = Literal["stop", "length", "tool_calls"]


class CompletionLogprobs(ResponseModel, frozen=True):
    """Log-probabilities of a completion; each list has one entry for each token."""

    tokens: list[str] = Field(description="The texts of the tokens, which join to the text.")
    token_logprobs: list[float | None] = Field(description="Null for the first token of an echoed prompt.")
    top_logprobs: list[dict[str, float] | None] = Field(description="By text; the token itself is always there.")
    text_offset: list[int] = Field(description="Where each token's text begins, in characters.")


class PromptLogprob(ResponseModel, frozen=True):
    """What is known of one token at a position of the prompt, as vLLM has it."""

    logprob: float = Field(description="In nats; -9999 for a token that cannot be drawn.")
    rank: int | None = Field(description="Its place among all tokens by probability, from 1.")
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]


class CompletionChoice(ResponseModel, frozen=True):
    index: int = Field(description="The n choices of the first prompt come first.")
    text: str
    logprobs: CompletionLogprobs | None = Field(description="Null where the request did not ask for them.")
    finish_reason: FinishReason | None = Field(description="Null in a chunk that is not the choice's last.")
    stop_reason: str | int | None = Field(description="The stop string or stop token id that ended it, if one did.")
    token_ids: list[int] | None = Field(None, description="Where `return_token_ids` asks for them.")
    prompt_token_ids: list[int] | None = Field(None, description="Where `return_token_ids` asks for them.")
    prompt_logprobs: PromptLogprobs | None = Field(
        None, description="By token id at each position, null at the first; where `prompt_logprobs` asks for them."
    )


class AnswerHead(ResponseModel, frozen=True):
    """What every answer and every chunk of a stream begins with."""

    id: str
    created: int = Field(description="Unix time, in seconds.")
    model: str


class Completion(AnswerHead, frozen=True):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage
    decoding: DecodingReport | None = Field(None, description="Present if the request has `decoding`.")


class CompletionChunk(AnswerHead, frozen=True):
    """One event of a stream; the last one carries `decoding`."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage | None = Field(None, description="As `stream_options` asks; null in chunks before the last.")
    decoding: DecodingReport | None = Field(None, description="In the last chunk, if the request has `decoding`.")
    obfuscation: str | None = Field(None, description="Padding; see `stream_options.include_obfuscation`.")


class ChatAlternative(ResponseModel, frozen=True):
    token: str
    logprob: float = Field(description="In nats; -9999 for a token that cannot be drawn.")
    bytes: list[int] | None = Field(description="A character may have the bytes of several tokens.")


class ChatToken(ChatAlternative, frozen=True):
    top_logprobs: list[ChatAlternative] = Field(description="The token itself is always there, if any are.")


class ChatLogprobs(ResponseModel, frozen=True):
    content: list[ChatToken]
    refusal: None


class AssistantMessage(ResponseModel, frozen=True):
    role: Literal["assistant"]
    content: str | None = Field(description="Null where the answer says nothing, but calls tools or only reasons.")
    refusal: None
    reasoning: str | None = Field(None, description="Where the server tells it apart.")
    tool_calls: list[ToolCall] | None = Field(None, description="Present if the answer calls tools.")


class ChatChoice(ResponseModel, frozen=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = Field(description="Null where the request did not ask for them.")
    finish_reason: ChatFinishReason
    stop_reason: str | int | None = Field(description="The stop string or stop token id that ended it, if one did.")
    token_ids: list[int] | None = Field(None, description="Where `return_token_ids` asks for them.")


class ChatCompletion(AnswerHead, frozen=True):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    decoding: DecodingReport | None = Field(None, description="Present if the request has `decoding`.")
    prompt_token_ids: list[int] | None = Field(None, description="Where `return_token_ids` asks for them.")
    prompt_logprobs: PromptLogprobs | None = Field(
        None, description="By token id at each position, null at the first; where `prompt_logprobs` asks for them."
    )


class Delta(ResponseModel, frozen=True):
    role: Literal["assistant"] | None = Field(None, description="In the first chunk of a choice.")
    content: str | None = None
    reasoning: str | None = Field(None, description="Where the server tells it apart.")
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(ResponseModel, frozen=True):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = Field(description="Null where the request did not ask for them.")
    finish_reason: ChatFinishReason | None = Field(description="Null in a chunk that is not the choice's last.")
    stop_reason: str | int | None = Field(description="The stop string or stop token id that ended it, if one did.")
    token_ids: list[int] | None = Field(None, description="Where `return_token_ids` asks for them.")


class ChatCompletionChunk(AnswerHead, frozen=True):
    """One event of a stream; the last one carries `decoding`."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | None = Field(None, description="As `stream_options` asks; null in chunks before the last.")
    decoding: DecodingReport | None = Field(None, description="In the last chunk, if the request has `decoding`.")
    obfuscation: str | None = Field(None, description="Padding; see `stream_options.include_obfuscation`.")
    prompt_token_ids: list[int] | None = Field(None, description="Where `return_token_ids` asks for them.")


class ScoredCompletion(ResponseModel, frozen=True):
    index: int
    object: Literal["reward"]
    rewards: Rewards = Field(description="By the reward's name; null where it does not apply.")
    calibrated_rewards: Rewards | None = Field(None, description="Quantiles, if the request has `calibrated`.")
    total: float | None = Field(description="The weighted sum of the rewards; null where none applies.")
    policy_logprob: float | None = Field(None, description="log pi(y|x) in nats, where `policy_logprob` asks for it.")
    guided_logprob: float | None = Field(None, description="The same under the guided policy, with `guides`.")


class ScoringCost(ResponseModel, frozen=True):
    generated_tokens: int = Field(description="Of the policy's samples, where calibrated rewards drew some.")
    scored_tokens: int = Field(description="Prompts and completions that rewards read.")
    seconds: dict[str, float] = Field(description="Wall time by phase.")


class RewardList(ResponseModel, frozen=True):
    object: Literal["list"]
    model: str
    data: list[ScoredCompletion]
    cost: ScoringCost
