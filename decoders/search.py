"""What all strategies share that choose by reward: the objective, and a run that draws, judges and reports."""

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from decoders.base import Decoder
from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost
from decoders.maths.transforms import Identity, Transform
from decoders.models import Models, scores_all
from decoders.parts.budget import full_length
from decoders.parts.divergence import with_logprobs
from decoders.parts.objective import Objective
from decoders.parts.rollouts import count, missing, rollouts
from decoders.parts.search_run import SearchRun

RolloutCount = Annotated[int, Field(ge=1, le=1024)]


def check_draws_differ(sampling: Sampling, count: int, what: str) -> None:
    """Raise `InvalidRequest` where a choice among `count` draws would be one among equals."""
    if sampling.is_greedy and count > 1:
        raise InvalidRequest(f"At temperature 0 all {what} would be the same: raise it.", "sampling.temperature")


class RewardSearch(Decoder, frozen=True, extra="forbid"):
    """A strategy that looks at rewards while it decodes; a subclass says how many rollouts a request may name."""

    calibrated: bool = Field(
        False,
        description="Go by each reward's quantile among samples of the frozen policy for the same prompt.",
    )
    transform: Transform = Field(default_factory=Identity, description="Of each calibrated reward, before weighing.")
    on_demand: bool = Field(True, description="Draw rollouts that are not stored; otherwise refuse the request.")

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        self.reward_weights(models)
        if not self.calibrated and not isinstance(self.transform, Identity):
            raise InvalidRequest("A transform is of a calibrated reward: set calibrated.", "strategy.transform")

    def reward_weights(self, models: Models) -> dict[str, float]:
        """Return the rewards to go by, with their weights. Raise `InvalidRequest` for one that is not loaded."""
        return models.resolve_rewards(self.reward)

    def keeps_all(self, models: Models) -> bool:
        """Return whether every candidate has a finite total.

        Where a candidate may lack one, an answer is conditioned on another having one. How often that is so is unknown,
        so that no bound on its divergence may be claimed, not even in a run in which all had one.
        """
        reshaped = not self.calibrated or math.isfinite(self.transform(0.0))
        return reshaped and all(scores_all(models.rewards[name]) for name in self.reward_weights(models))

    async def begin(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> SearchRun:
        """Return a run whose objective is known, with its rollouts where it needs any.

        Raise `InvalidRequest`, `RewardFailed` or `EngineFailed`.
        """
        run = self.new_run(prompt, models, sampling, rng)
        await run.set_objective(self.objective(run, rng.fork()))
        return run

    def new_run(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> SearchRun:
        """Return a run that has yet to get its objective."""
        guided = self.guided(models, sampling)
        logged = with_logprobs(guided) if self.wants_logprobs(guided) else guided
        draws = replace(logged, n=1, stream=False)
        names = list(self.reward_weights(models))
        return SearchRun(prompt, models, guided, draws, rng, names, self.return_kl)

    def wants_logprobs(self, sampling: Sampling) -> bool:
        """Return whether each draw is to bring its log-probabilities, for the KL of the answer."""
        return self.return_kl and bool(sampling.guides)

    async def objective(self, run: SearchRun, rng: Rng) -> Objective:
        """Return what candidates are judged by. Raise `InvalidRequest`, `RewardFailed` or `EngineFailed`."""
        weights = self.reward_weights(run.models)
        if not self.calibrated:
            return Objective(weights)
        number = count(self.rollout_count, run.models)
        reference = await rollouts(
            run.prompt, number, run.models, list(weights), run.draws, rng, on_demand=self.on_demand
        )
        return Objective(weights, self.transform, reference)

    def max_rollout_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Return the most that its rollouts may take."""
        return full_length(sampling, self.max_rollouts(models))

    async def rollouts_at_once(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        """Return how many rollouts it has to draw: none where the store has those of every reward."""
        number = self.max_rollouts(models)
        if number and not await missing(prompt, number, models, list(self.reward_weights(models)), sampling):
            return 0
        return number

    def max_rollouts(self, models: Models) -> int:
        """Return how many rollouts it may have to draw."""
        return count(self.rollout_count, models) if self.calibrated and self.on_demand else 0

    @property
    @abstractmethod
    def rollout_count(self) -> int | None:
        """How many policy samples a calibrated reward is to have; None for as many as the store keeps."""


class Search(RewardSearch, frozen=True, extra="forbid"):
    """A strategy that looks at rewards while it decodes."""

    rollouts: RolloutCount | None = Field(
        None,
        description="Policy samples behind a calibrated reward; by default as many as the server's store is for, "
        "or 100.",
    )

    @property
    def rollout_count(self) -> int | None:
        return self.rollouts
