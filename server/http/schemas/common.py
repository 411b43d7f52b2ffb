"""What the bodies of completions and chat completions have in common: the model, the strategy and the stream.

A validator that looks at several fields raises `InvalidRequest`, which pydantic lets through as it is: the error
keeps the name of its field, which a ValueError would lose.
"""

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from decoders import Sample, Strategy
from decoders.errors import InvalidRequest
from server.http.schemas.client_fields import ClientFields
from server.http.schemas.sampling import CompletionSampling

MAX_LOGPROBS = 20  # vLLM's default bound


class StreamOptions(BaseModel, frozen=True, extra="forbid"):
    include_usage: bool = Field(False, description="Send one more chunk at the end, with the usage and no choices.")
    continuous_usage_stats: bool = Field(False, description="Put the usage so far into each chunk.")
    include_obfuscation: bool = Field(
        False, description="Pad each chunk to a multiple of 256 bytes, which hides the length of its text."
    )


class Addressed(BaseModel, frozen=True, extra="forbid"):
    """A body that may name the model it is meant for."""

    model: str | None = Field(None, description="The served model's name; another one is refused with 404.")
    _warnings: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the client should change before the next release, as `parse` found it."""
        return self._warnings

    @property
    def client_fields(self) -> ClientFields:
        """The body's names of what strategies and engines name in their own terms."""
        return ClientFields("")


class PromptOptions(BaseModel, frozen=True, extra="forbid"):
    """How a prompt is cut, cached and scheduled, and whether its tokens are reported; the fields are vLLM's."""

    truncate_prompt_tokens: int | None = Field(
        None, ge=-1, description="Keep so many tokens of the prompt; -1 keeps as many as fit the context."
    )
    truncation_side: Literal["left", "right"] = Field(
        "left", description="Where the others are cut off. Rewards still read all messages of a chat."
    )
    cache_salt: str | None = Field(
        None, min_length=1, max_length=1024, description="Only requests with the same one share cached prefixes."
    )
    priority: int = Field(
        0,
        ge=-(2**31),
        lt=2**31,
        description="A lower one is served first of its key's requests, where the engine goes by priority.",
    )
    prompt_logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="Add the prompt's log-probabilities and so many likeliest tokens."
    )
    return_token_ids: bool = Field(False, description="Add the token ids of prompt and answer.")


class Body(Addressed, CompletionSampling, PromptOptions, frozen=True, extra="forbid"):
    """Every field is honoured or refused; what asks for nothing is dropped (`noops`)."""

    decoding: Strategy = Field(
        default_factory=Sample, description="The [strategy](strategies.md) with its fields; a plain sample by default."
    )
    stream_options: StreamOptions | None = Field(None, description="Of a stream; without one they ask for nothing.")

    @property
    def client_fields(self) -> ClientFields:
        names = {
            "max_tokens": self.length_field,
            "logprobs": self.logprobs_field,
            "grammar": self.grammar_field,
            "prompt_logprobs": "echo" if self.prompt_logprobs is None else "prompt_logprobs",
        }
        return ClientFields("decoding.", names)

    @model_validator(mode="after")
    def _whole_answers(self) -> "Body":
        if self.prompt_logprobs is not None and self.stream:
            raise InvalidRequest("prompt_logprobs come with a whole answer: leave stream out.", "prompt_logprobs")
        return self

    @property
    def length_field(self) -> str:
        """The field that asked for the answer's length."""
        return "max_tokens"

    @property
    def logprobs_field(self) -> str:
        """The field that asked for the likeliest tokens."""
        return "logprobs"
