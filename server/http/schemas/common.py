"""What the bodies of completions and chat completions have in common: the model, the strategy and the stream.

A validator that looks at several fields raises `InvalidRequest`, which pydantic lets through as it is: the error
keeps the name of its field, which a ValueError would lose.
"""

from pydantic import BaseModel, Field, model_validator

from decoders import Sample, Strategy
from decoders.errors import InvalidRequest
from server.http.schemas.sampling import CompletionSampling

MAX_LOGPROBS = 20  # vLLM's default bound


class StreamOptions(BaseModel, frozen=True, extra="forbid"):
    include_usage: bool = Field(False, description="One more chunk at the end has the usage.")
    continuous_usage_stats: bool = Field(False, description="Each chunk has the usage so far.")
    include_obfuscation: bool = Field(False, description="Chunks are padded to a multiple of a length.")


class Addressed(BaseModel, frozen=True, extra="forbid"):
    """A body that may name the model it is meant for."""

    model: str | None = None


class Body(Addressed, CompletionSampling, frozen=True, extra="forbid"):
    """Every field is honoured or refused; what asks for nothing is dropped (`noops`)."""

    decoding: Strategy = Field(default_factory=Sample, description="The strategy; a plain sample by default.")
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_belong_to_streams(self) -> "Body":
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options goes with stream: true.", "stream_options")
        return self

    @property
    def length_field(self) -> str:
        """The field that asked for the answer's length."""
        return "max_tokens"

    @property
    def logprobs_field(self) -> str:
        """The field that asked for the likeliest tokens."""
        return "logprobs"
