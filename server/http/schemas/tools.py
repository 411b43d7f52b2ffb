"""The tools of a chat, and which of them an answer is to call, in OpenAI's shapes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from decoders.errors import InvalidRequest

Name = Annotated[str, Field(min_length=1, max_length=256)]


class ToolFunction(BaseModel, frozen=True, extra="forbid"):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema.")
    strict: bool | None = Field(None, description="Arguments fit the schema, where vLLM has a grammar for the parser.")


class Tool(BaseModel, frozen=True, extra="forbid"):
    type: Literal["function"]
    function: ToolFunction


class NamedFunction(BaseModel, frozen=True, extra="forbid"):
    name: Name


class NamedTool(BaseModel, frozen=True, extra="forbid"):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


def check_choice(choice: ToolChoice | None, tools: Sequence[Tool]) -> None:
    """Raise `InvalidRequest` for a choice of a tool that is not there."""
    if choice in (None, "none", "auto"):
        return
    if not tools:
        raise InvalidRequest("tool_choice chooses among tools, and there are none.", "tool_choice")
    if isinstance(choice, NamedTool) and choice.function.name not in [tool.function.name for tool in tools]:
        raise InvalidRequest(f"There is no tool '{choice.function.name}'.", "tool_choice")
