"""POST /v1/rewards: score completions without generating any."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from decoders.base import RewardNames
from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.chat import ChatMessage, ChatTemplateOptions
from server.http.schemas.common import Addressed
from server.http.schemas.sampling import MIN_TEMPERATURE, RolloutSampling

CALIBRATION = ("rollouts", "on_demand", "max_tokens", *RolloutSampling.model_fields)


class RewardsBody(Addressed, ChatTemplateOptions, RolloutSampling, frozen=True, extra="forbid"):
    prompt: str | None = Field(None, description="Either this or `messages`.")
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = Field(None, description="As in a chat.")
    completions: list[str] = Field(min_length=1, max_length=1024, description="Up to 1024 texts to score.")
    reward: RewardNames = None
    ended: bool = Field(
        False,
        description="Whether the completions ended by themselves: then rewards that read the policy's token ids "
        "read the end-of-sequence token too. A reward model's own chat template closes the turn in any case.",
    )

    calibrated: bool = Field(
        False, description="Add each reward's quantile among samples of the policy; `total` then sums quantiles."
    )
    rollouts: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="How many samples; by default the server's `calibration.rollouts`, or 100."
    )
    on_demand: bool = Field(
        True, description="Draw samples now if they are not stored; false refuses the request instead."
    )
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = Field(
        None, description="How the samples are drawn; the defaults are those of completions or of chat completions."
    )
    temperature: Annotated[float, Field(ge=MIN_TEMPERATURE, le=2)] = 1.0  # greedy samples have no quantiles

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "messages" not in data:
            return data
        return {**data, "messages": noops.messages_without_noops(data["messages"])}

    @model_validator(mode="after")
    def _one_prompt(self) -> "RewardsBody":
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("Give either prompt or messages.", "prompt")
        for name in ChatTemplateOptions.model_fields:
            if name in self.model_fields_set and self.messages is None:
                raise InvalidRequest(f"'{name}' goes with messages.", name)
        if self.messages is not None:
            self.check_turn(self.messages)
        for name in CALIBRATION:
            if name in self.model_fields_set and not self.calibrated:
                raise InvalidRequest(f"'{name}' is about samples of the policy: set calibrated.", name)
        return self

    def sampling(self, prompt: Prompt, max_model_len: int) -> Sampling:
        """Return how the samples behind a calibrated reward are drawn."""
        default = 16 if self.messages is None else max(max_model_len - len(prompt.tokens), 1)
        return self.to_sampling(max_tokens=self.max_tokens or default)
