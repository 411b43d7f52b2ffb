"""POST /v1/completions."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.common import MAX_LOGPROBS, Body
from server.http.schemas.items import Items

TokenIds = Annotated[Items[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _form(prompt: object) -> str | None:
    """Return which of the four forms a prompt has, so that an error is about that form."""
    if isinstance(prompt, str):
        return "text"
    match prompt:
        case [str(), *_]:
            return "texts"
        case [int(), *_] if not isinstance(prompt[0], bool):
            return "tokens"
        case [list(), *_]:
            return "token lists"
    return None


AnyPrompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Items[str], Tag("texts")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[Items[TokenIds], Tag("token lists")],
    Discriminator(
        _form,
        custom_error_type="prompt_form",
        custom_error_message="Input should be a string, a list of strings, a list of token ids or a list of those",
    ),
]


class CompletionsBody(Body, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.BODY)):
    prompt: AnyPrompt = Field(description="A text, token ids, or a list of either.")
    max_tokens: int = Field(
        16, ge=0, le=2**31, description="0 only with `echo`: the prompt is scored, nothing is drawn."
    )
    add_special_tokens: bool = Field(True, description="Add the tokenizer's own special tokens to a text.")
    echo: bool = Field(False, description="Put the prompt before the completion.")
    logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="Log-probabilities of the tokens and of so many likeliest ones."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        return noops.without_noops(noops.BODY, data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _some_work(self) -> "CompletionsBody":
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("max_tokens: 0 goes with echo: true, to score a prompt.", "max_tokens")
        if self.echo and self.logprobs is not None and self.prompt_logprobs not in (None, self.logprobs):
            raise InvalidRequest("echo with logprobs asks for another number of them.", "prompt_logprobs")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return list(prompt)

    def sampling(self, prompt: Prompt, max_model_len: int) -> Sampling:  # noqa: ARG002
        echoed = self.logprobs if self.echo else None
        return self.to_sampling(prompt_logprobs=echoed if self.prompt_logprobs is None else self.prompt_logprobs)
