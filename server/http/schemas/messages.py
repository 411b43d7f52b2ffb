"""The messages of a chat, in OpenAI's shapes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.items import Items


class TextPart(BaseModel, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.PART)):
    type: Literal["text"]
    text: str


class CalledFunction(BaseModel, frozen=True, extra="forbid"):
    name: str
    arguments: str = Field(description="JSON, as the policy wrote it.")


class MessageToolCall(BaseModel, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.CALL)):
    """A call that the assistant made in an earlier turn."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.MESSAGE)):
    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(
        description="`developer` is read as `system`."
    )
    content: str | Annotated[Items[TextPart], Field(min_length=1)] | None = Field(
        None,
        description='A text, or parts `{"type": "text", "text": ...}` that are joined; an assistant\'s message that '
        "calls tools may have none.",
    )
    name: str | None = Field(None, description="Handed to the chat template.")
    tool_calls: Items[MessageToolCall] | None = Field(None, description="What an assistant's message called.")
    tool_call_id: str | None = Field(None, description="The call that a message of a tool answers.")
    reasoning: str | None = Field(None, description="Of an assistant's message; handed to the chat template.")

    def check(self, where: str) -> None:
        """Raise `InvalidRequest` for fields that do not fit the role; `where` is the message's path in the body."""
        if self.content is None and not self.tool_calls:
            where += ".content"
            raise InvalidRequest(f"{where}: Field required, unless the message calls tools.", where)
        for field, role in (("tool_calls", "assistant"), ("reasoning", "assistant"), ("tool_call_id", "tool")):
            if getattr(self, field) and self.role != role:
                raise InvalidRequest(f"{where}.{field}: Only a message of role {role} has it.", f"{where}.{field}")

    def plain(self) -> dict[str, Any]:
        """Return the message as chat templates know it."""
        content = "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": content}
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
        for name in ("name", "tool_call_id", "reasoning"):
            if getattr(self, name):
                message[name] = getattr(self, name)
        return message


def check_messages(messages: Sequence[ChatMessage], *, opened: bool, continued: bool) -> None:
    """Raise `InvalidRequest` for a message whose fields do not fit its role, or for two ways to go on after them.

    Args:
        opened: Open the assistant's turn after the messages (`add_generation_prompt`).
        continued: Leave the last message's turn open (`continue_final_message`).
    """
    for i, message in enumerate(messages):
        message.check(f"messages.{i}")
    if opened and continued:
        raise InvalidRequest(
            "continue_final_message and add_generation_prompt exclude each other.", "add_generation_prompt"
        )
