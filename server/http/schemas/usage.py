"""The `usage` of an answer: its tokens, as OpenAI counts them."""

from pydantic import Field

from server.http.schemas.response_model import ResponseModel


class CompletionTokensDetails(ResponseModel, frozen=True):
    reasoning_tokens: int = Field(description="Of the choices.")


class Usage(ResponseModel, frozen=True):
    prompt_tokens: int = Field(description="Of all prompts.")
    completion_tokens: int = Field(
        description="Every generated token, of all candidates; not only those of the choices."
    )
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails | None = Field(
        None, description="Where the server tells reasoning apart."
    )
