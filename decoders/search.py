"""What all strategies share that choose by reward: which number they go by."""

import math
from typing import Annotated

from pydantic import Field

from decoders.base import Decoder
from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost
from decoders.maths.transforms import Identity, Transform
from decoders.models import Models, scores_all
from decoders.parts.budget import times
from decoders.parts.objective import Objective
from decoders.parts.rollouts import missing, rollouts, size

Count = Annotated[int, Field(ge=1, le=1024)]


class Search(Decoder, frozen=True, extra="forbid"):
    """A strategy that looks at rewards while it decodes."""

    calibrated: bool = Field(
        False,
        description="Go by each reward's quantile among samples of the frozen policy for the same prompt.",
    )
    transform: Transform = Field(default_factory=Identity, description="Of each calibrated reward, before weighing.")
    rollouts: Count | None = Field(
        None,
        description="Policy samples behind a calibrated reward; by default as many as the server's store is for, "
        "or 100.",
    )
    on_demand: bool = Field(True, description="Draw rollouts that are not stored; otherwise refuse the request.")

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        self.reward_weights(models)
        if not self.calibrated and not isinstance(self.transform, Identity):
            raise InvalidRequest("A transform is of a calibrated reward: set calibrated.", "decoding.transform")

    def reward_weights(self, models: Models) -> dict[str, float]:
        """The rewards it goes by. Raises `InvalidRequest` for one that is not loaded."""
        return models.resolve_rewards(self.reward)

    def keeps_all(self, models: Models) -> bool:
        """Whether every candidate has a finite number to go by.

        Where one can be out, an answer is conditioned on another being there, how often that is so nobody knows, and
        no bound on its divergence may be claimed: not even in a run in which all were there.
        """
        reshaped = not self.calibrated or math.isfinite(self.transform(0.0))
        return reshaped and all(scores_all(models.rewards[name]) for name in self.reward_weights(models))

    async def objective(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Objective:
        """The number to go by, with its rollouts where it needs any.

        Raise `InvalidRequest`, and what `ScoredCandidates.draw` raises.
        """
        weights = self.reward_weights(models)
        if not self.calibrated:
            return Objective(weights)
        count = size(self.rollouts, models)
        reference = await rollouts(prompt, count, models, list(weights), sampling, rng, on_demand=self.on_demand)
        return Objective(weights, self.transform, reference)

    def max_rollout_cost(self, sampling: Sampling, models: Models) -> Cost:
        """What its rollouts may take."""
        return times(sampling, self.references(models))

    async def references_at_once(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        """Return how many rollouts it has to draw: none where the store has those of every reward."""
        count = self.references(models)
        if count and not await missing(prompt, count, models, list(self.reward_weights(models)), sampling):
            return 0
        return count

    def references(self, models: Models) -> int:
        """Return how many rollouts it may have to draw."""
        return size(self.rollouts, models) if self.calibrated and self.on_demand else 0
