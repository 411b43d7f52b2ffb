"""What the bodies of completions and chat completions have in common: the model, the strategy and the stream.

A validator that looks at several fields raises `InvalidRequest`, which pydantic lets through as it is: the error
keeps the name of its field, which a ValueError would lose.
"""

from pydantic import BaseModel, Field

from decoders import Sample, Strategy
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


class Body(Addressed, CompletionSampling, frozen=True, extra="forbid"):
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
            "prompt_logprobs": "echo",
        }
        return ClientFields("decoding.", names)

    @property
    def length_field(self) -> str:
        """The field that asked for the answer's length."""
        return "max_tokens"

    @property
    def logprobs_field(self) -> str:
        """The field that asked for the likeliest tokens."""
        return "logprobs"
