"""POST /v1/rewards: score completions without generating any."""

from typing import Annotated

from pydantic import Field, model_validator

from decoders.base import GuideWeights, RewardNames
from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.http.schemas.items import Items
from server.http.schemas.prompt_or_chat import PromptOrChat
from server.http.schemas.sampling import MIN_TEMPERATURE, RolloutSampling

CALIBRATION = ("rollouts", "on_demand", "max_tokens", *RolloutSampling.model_fields)


class RewardsBody(PromptOrChat, RolloutSampling, frozen=True, extra="forbid"):
    completions: Items[str] = Field(min_length=1, max_length=1024, description="Up to 1024 texts to score.")
    reward: RewardNames = None
    ended: bool = Field(
        False,
        description="Whether the completions ended by themselves: then rewards that read the policy's token ids "
        "read the end-of-sequence token too. A reward model's own chat template closes the turn in any case.",
    )

    policy_logprob: bool = Field(
        False, description="Add the completions' log-probabilities under the frozen policy, in nats."
    )
    guides: GuideWeights = Field(
        default_factory=dict, description="Add the log-probabilities under the policy with these guides, in nats."
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

    @model_validator(mode="after")
    def _calibration_where_due(self) -> "RewardsBody":
        for name in CALIBRATION:
            if name in self.model_fields_set and not self.calibrated:
                raise InvalidRequest(f"'{name}' is about samples of the policy: set calibrated.", name)
        return self

    def sampling(self, prompt: Prompt, max_model_len: int) -> Sampling:
        """Return how the samples behind a calibrated reward are drawn."""
        default = 16 if self.messages is None else max(max_model_len - len(prompt.tokens), 1)
        return self.to_sampling(max_tokens=self.max_tokens or default)
