"""What the bodies have in common that give a prompt, as a text or as a chat, and draw no answer to it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.chat import ChatTemplateOptions
from server.http.schemas.common import Addressed
from server.http.schemas.items import Items
from server.http.schemas.messages import ChatMessage


class PromptOrChat(Addressed, ChatTemplateOptions, frozen=True, extra="forbid"):
    prompt: str | None = Field(None, description="Either this or `messages`.")
    messages: Annotated[Items[ChatMessage], Field(min_length=1)] | None = Field(None, description="As in a chat.")

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "messages" not in data:
            return data
        return {**data, "messages": noops.messages_without_noops(data["messages"])}

    @model_validator(mode="after")
    def _one_prompt(self) -> "PromptOrChat":
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("Give either prompt or messages.", "prompt")
        for name in ChatTemplateOptions.model_fields:
            if name in self.model_fields_set and self.messages is None:
                raise InvalidRequest(f"'{name}' goes with messages.", name)
        if self.messages is not None:
            self.check_messages(self.messages)
        return self
