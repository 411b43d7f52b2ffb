"""POST /v1/chat/completions."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.schemas.common import MAX_LOGPROBS, Body


class TextPart(BaseModel, frozen=True, extra="forbid"):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel, frozen=True, extra="forbid"):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """The message as chat templates know it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": content}
        return message if self.name is None else {**message, "name": self.name}


class ChatBody(Body, frozen=True, extra="forbid"):
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, le=2**31, description="OpenAI's older name of max_completion_tokens.")
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31, description="All that fits, by default.")
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    @model_validator(mode="after")
    def _pairs(self) -> "ChatBody":
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs goes with logprobs: true.", "top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise InvalidRequest("max_tokens and max_completion_tokens say different things.", "max_tokens")
        return self

    @property
    def length_field(self) -> str:
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def logprobs_field(self) -> str:
        return "top_logprobs"

    def sampling(self, prompt: Prompt, max_model_len: int) -> Sampling:
        asked = self.max_completion_tokens or self.max_tokens
        room = max(max_model_len - len(prompt.tokens), 1)
        return replace(
            self.base_sampling(room if asked is None else asked),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )
