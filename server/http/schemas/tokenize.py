"""POST /tokenize and /detokenize, in vLLM's shapes."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.chat import ChatMessage, ChatTemplateOptions
from server.http.schemas.common import Addressed
from server.http.schemas.response_model import ResponseModel


class TokenizeBody(Addressed, ChatTemplateOptions, frozen=True, extra="forbid"):
    prompt: str | None = Field(None, description="Either this or `messages`.")
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = Field(None, description="As in a chat.")
    add_special_tokens: bool | None = Field(
        None, description="Add the tokenizer's special tokens to a prompt; true by default. A chat has its template's."
    )
    return_token_strs: bool = Field(False, description="Add each token as the vocabulary writes it.")

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "messages" not in data:
            return data
        return {**data, "messages": noops.messages_without_noops(data["messages"])}

    @model_validator(mode="after")
    def _one_prompt(self) -> "TokenizeBody":
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("Give either prompt or messages.", "prompt")
        if self.messages is None:
            for name in ChatTemplateOptions.model_fields:
                if name in self.model_fields_set:
                    raise InvalidRequest(f"'{name}' goes with messages.", name)
            return self
        self.check_turn(self.messages)
        if self.add_special_tokens:
            raise InvalidRequest("A chat's special tokens are its template's.", "add_special_tokens")
        return self


class Tokens(ResponseModel, frozen=True):
    count: int
    max_model_len: int = Field(description="Tokens of prompt and completion together.")
    tokens: list[int]
    token_strs: list[str] | None = Field(description="Null where `return_token_strs` does not ask for them.")


class DetokenizeBody(Addressed, frozen=True, extra="forbid"):
    tokens: list[Annotated[int, Field(ge=0)]]


class Detokenized(ResponseModel, frozen=True):
    prompt: str
