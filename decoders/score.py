"""Scoring alone: given completions, no generation but of rollouts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, UnreadableText
from decoders.events import Cost, Done, Info, Result, Run, ScoredCandidate
from decoders.models import Models, Reward, RewardSpec
from decoders.parts.budget import full_length
from decoders.parts.concurrency import together
from decoders.parts.objective import Objective
from decoders.parts.rollouts import count, missing, rollouts
from decoders.parts.scoring import score, tokens_read
from decoders.policy import TokenLaw


class ScoreInfo(Info, frozen=True):
    """What is measured of a given completion beside its rewards."""

    guided_logprob: float


@dataclass(frozen=True)
class Score:
    """The rewards of `completions`, in their order: what `POST /v1/rewards` runs.

    It is no strategy that a request can name. With `calibrated`, each reward's quantile among samples of the policy is
    added. `number` says how many samples, by default as the store keeps; where they are not stored they are drawn as
    the request's sampling says, if `on_demand` allows it. With `policy_logprob`, log pi(y|x) is added, in nats; with
    `guides`, the same under the guided policy. A server without rewards can give these alone.
    """

    completions: Sequence[Candidate]
    reward: RewardSpec
    calibrated: bool = False
    number: int | None = None
    on_demand: bool = True
    policy_logprob: bool = False
    guides: Mapping[str, float] = field(default_factory=dict)

    def weights(self, models: Models) -> dict[str, float]:
        """Return the rewards to score by. Raise `InvalidRequest` for one that is not loaded."""
        if self.reward is None and not models.rewards and (self.policy_logprob or self.guides):
            return {}
        return models.resolve_rewards(self.reward)

    def check(self, models: Models) -> None:
        """Raise `InvalidRequest` for rewards or guides that are not loaded."""
        self.weights(models)
        models.resolve_guides(self.guides)

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        """Return how many sequences it may draw or score at the same time."""
        number = self._max_rollouts(models)
        if number and not await missing(prompt, number, models, list(self.weights(models)), sampling):
            number = 0
        return max(len(self.completions), number)

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Return the most that it may draw: the rollouts, where it is allowed to."""
        return full_length(sampling, self._max_rollouts(models))

    def _max_rollouts(self, models: Models) -> int:
        return count(self.number, models) if self.calibrated and self.on_demand else 0

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        """Yield one `Done`. Raise `InvalidRequest` for a text that a reward cannot read, and `RewardFailed`."""
        weights = self.weights(models)
        objective = Objective(weights)
        if self.calibrated:
            number, names = count(self.number, models), list(weights)
            reference = await rollouts(prompt, number, models, names, sampling, rng, on_demand=self.on_demand)
            objective = Objective(weights, reference=reference)
        rewards = {name: _CallersTexts(models.rewards[name]) for name in weights}
        scores, cost = await score(prompt, self.completions, rewards)
        drawn = [ScoredCandidate(c, own) for c, own in zip(self.completions, scores, strict=True)]
        judged = objective.judge(drawn)
        results, measuring = await self._measured(prompt, models, judged)
        yield Done(results, objective.cost + cost + measuring, tuple(judged))

    async def _measured(
        self, prompt: Prompt, models: Models, judged: Sequence[ScoredCandidate]
    ) -> tuple[tuple[Result, ...], Cost]:
        """Return the results with the log-probabilities that are asked for, and what these cost."""
        started = time.perf_counter()
        results = [Result(candidate) for candidate in judged]
        if self.policy_logprob:
            own = await self._logprobs(prompt, models, TokenLaw())
            results = [replace(result, policy_logprob=value) for result, value in zip(results, own, strict=True)]
        if self.guides:
            guided = await self._logprobs(prompt, models, TokenLaw(1.0, models.resolve_guides(self.guides)))
            infos = [ScoreInfo(guided_logprob=value) for value in guided]
            results = [replace(result, info=info) for result, info in zip(results, infos, strict=True)]
        read = tokens_read(prompt, self.completions) * (self.policy_logprob + bool(self.guides))
        seconds = {"score": time.perf_counter() - started}
        return tuple(results), Cost(scored_tokens=read, seconds=seconds) if read else Cost()

    async def _logprobs(self, prompt: Prompt, models: Models, law: TokenLaw) -> list[float]:
        """Return the log-probability of each completion in nats. Raise `InvalidRequest` for one that is too long."""
        try:
            return await together(models.policy.logprob(prompt, completion, law) for completion in self.completions)
        except UnreadableText as error:
            raise InvalidRequest(f"The policy cannot read a completion: {error}.", "completions") from error


@dataclass(frozen=True)
class _CallersTexts:
    """A reward that blames the caller where it cannot read a text: here all texts are the caller's."""

    reward: Reward

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        try:
            return await self.reward.score(prompt, completions)
        except UnreadableText as error:
            raise InvalidRequest(str(error), await self._field(prompt)) from error

    async def _field(self, prompt: Prompt) -> str:
        """Return the field to blame: the prompt's, if it cannot be read with a completion of one token either."""
        alone = "prompt" if prompt.messages is None else "messages"
        if not prompt.tokens:
            return alone
        try:
            await self.reward.score(prompt, [Candidate(prompt.tokens[-1:], ".", "length")])
        except UnreadableText:
            return alone
        return "completions"
