"""POST /tokenize and /detokenize, in vLLM's shapes."""

from typing import Annotated

from pydantic import Field, model_validator

from decoders.errors import InvalidRequest
from server.http.schemas.common import Addressed
from server.http.schemas.items import Items
from server.http.schemas.prompt_or_chat import PromptOrChat
from server.http.schemas.response_model import ResponseModel


class TokenizeBody(PromptOrChat, frozen=True, extra="forbid"):
    add_special_tokens: bool | None = Field(
        None, description="Add the tokenizer's special tokens to a prompt; true by default. A chat has its template's."
    )
    return_token_strs: bool = Field(False, description="Add each token as the vocabulary writes it.")

    @model_validator(mode="after")
    def _special_tokens_of_prompts(self) -> "TokenizeBody":
        if self.messages is not None and self.add_special_tokens:
            raise InvalidRequest("A chat's special tokens are its template's.", "add_special_tokens")
        return self


class Tokens(ResponseModel, frozen=True):
    count: int
    max_model_len: int = Field(description="Tokens of prompt and completion together.")
    tokens: list[int]
    token_strs: list[str] | None = Field(description="Null where `return_token_strs` does not ask for them.")


class DetokenizeBody(Addressed, frozen=True, extra="forbid"):
    tokens: Items[Annotated[int, Field(ge=0)]]


class Detokenized(ResponseModel, frozen=True):
    prompt: str
