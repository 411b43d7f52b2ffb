"""POST /v1/chat/completions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.engines.text import Turn
from server.http.schemas import noops
from server.http.schemas.common import MAX_LOGPROBS, Body


class TextPart(BaseModel, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.PART)):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.MESSAGE)):
    role: Literal["system", "developer", "user", "assistant"] = Field(description="`developer` is read as `system`.")
    content: str | Annotated[list[TextPart], Field(min_length=1)] = Field(
        description='A text, or parts `{"type": "text", "text": ...}` that are joined.'
    )
    name: str | None = Field(None, description="Handed to the chat template.")

    def plain(self) -> dict[str, str]:
        """Return the message as chat templates know it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": content}
        return message if self.name is None else {**message, "name": self.name}


class ChatTemplateOptions(BaseModel, frozen=True, extra="forbid"):
    """How a chat is rendered as a prompt; the fields are vLLM's."""

    add_generation_prompt: bool | None = Field(
        None, description="Open the assistant's turn after the messages; true by default, unless the last is continued."
    )
    continue_final_message: bool = Field(
        False, description="Continue the last message, which is the beginning of the assistant's turn."
    )

    @property
    def turn(self) -> Turn:
        """Which turn the policy writes after the messages."""
        if self.continue_final_message:
            return "continued"
        return "none" if self.add_generation_prompt is False else "new"

    def check_turn(self, messages: Sequence[ChatMessage]) -> None:
        """Raise `InvalidRequest` if the last message cannot be continued as the fields ask."""
        if not self.continue_final_message:
            return
        if self.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt exclude each other.", "add_generation_prompt"
            )
        if messages[-1].role != "assistant":
            raise InvalidRequest("The last message must be the assistant's, to be continued.", "continue_final_message")


class ChatBody(Body, ChatTemplateOptions, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.CHAT)):
    messages: list[ChatMessage] = Field(min_length=1, description="The chat so far.")
    max_tokens: int | None = Field(None, ge=1, le=2**31, description="OpenAI's older name of `max_completion_tokens`.")
    max_completion_tokens: int | None = Field(
        None, ge=1, le=2**31, description="As many as fit the model's context, by default."
    )
    logprobs: bool = Field(False, description="Add the log-probabilities of the tokens.")
    top_logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="Add so many likeliest tokens; only with `logprobs`."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        sent = noops.without_noops(noops.CHAT, data)
        return {**sent, "messages": noops.messages_without_noops(sent["messages"])} if "messages" in sent else sent

    @model_validator(mode="after")
    def _consistent_fields(self) -> "ChatBody":
        self.check_turn(self.messages)
        if self.top_logprobs and not self.logprobs:
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
        return self.to_sampling(
            max_tokens=room if asked is None else asked,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )
