"""The calls of tools in an answer, whole and streamed."""

from typing import Literal

from pydantic import Field

from server.http.schemas.response_model import ResponseModel


class FunctionCall(ResponseModel, frozen=True):
    name: str
    arguments: str = Field(description="JSON, as the policy wrote it; it need not be valid.")


class ToolCall(ResponseModel, frozen=True):
    id: str
    type: Literal["function"]
    function: FunctionCall


class FunctionCallDelta(ResponseModel, frozen=True):
    name: str | None = Field(None, description="In the first piece of a call.")
    arguments: str | None = None


class ToolCallDelta(ResponseModel, frozen=True):
    """More of a call; its first piece has an id, a type and a name."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionCallDelta
