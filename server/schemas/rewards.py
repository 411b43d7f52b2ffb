"""POST /v1/rewards: score completions without generating any."""

from typing import Annotated

from pydantic import Field, model_validator

from decoders.base import RewardNames
from decoders.errors import InvalidRequest
from server.schemas.chat import ChatMessage
from server.schemas.common import Addressed


class RewardsBody(Addressed, frozen=True, extra="forbid"):
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    completions: list[str] = Field(min_length=1, max_length=1024)
    reward: RewardNames = None
    ended: bool = Field(
        False, description="The completions ended by themselves: the end-of-sequence token is scored with them."
    )

    @model_validator(mode="after")
    def _one_prompt(self) -> "RewardsBody":
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("Give either prompt or messages.", "prompt")
        return self
