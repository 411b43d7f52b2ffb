"""Rejection sampling: the KL-regularised optimum, exactly.

repeat until n are accepted:
    1. draw y ~ pi(. | x)
    2. accept y with probability exp((s(y) - s_max)/beta)

Here s is a calibrated, transformed reward, which is bounded, or a raw reward that the request declares to be at most
r_max.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Info, Run, ScoredCandidate, Step
from decoders.maths.acceptance import log_rate
from decoders.maths.logmath import INF, logsumexp
from decoders.maths.transforms import expected_draws
from decoders.models import Models
from decoders.parts.budget import full_length
from decoders.parts.results import Choice
from decoders.parts.scored_candidates import mean_rewards
from decoders.parts.search_run import SearchRun
from decoders.parts.selection import Beta, Softmax, coin
from decoders.search import Search, check_draws_differ


class RejectionInfo(Info, frozen=True):
    draws: int = Field(description="Candidates drawn, for all results of the prompt together.")
    accepted: bool = Field(description="False for a softmax pick among the draws, where `max_draws` was not enough.")
    log_z: float | None = Field(description="The estimate of log Z, the tilt's normaliser; left out where not finite.")


@dataclass
class _Draws:
    """All draws so far, those that were accepted, and how many there were of both before the last batch."""

    bound: float
    scored: list[ScoredCandidate] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    before: tuple[int, int] = (0, 0)


class Rejection(Search, frozen=True, extra="forbid"):
    """One exact draw from the tilted policy for each result.

    Law: pi(y|x) exp(s(x,y)/beta) / Z(x), the optimum of E[s] - beta KL(.||pi) [Korbel et al. 2022], with pi guided
    where the request names guides. With `calibrated`, s = Phi(C) for the C that the rollouts estimate, and since these
    are no candidates, the law is exact for that C. With `r_max`, s is the raw reward, and the law is exact if it is a
    true bound: a reward above it ends the request in an error. What breaks it is `max_draws`: a result that was not
    accepted by then is the softmax pick among the draws, and says `accepted: false`. A candidate without a finite
    reward is never accepted.

    KL is that of an accepted answer, s/beta - log Z; none for any other. Log Z is estimated from the draws, without
    bias though they stop at acceptance (`decoders.maths.acceptance`), as long as `max_draws` is enough. Runs that it
    cuts off are missing from the accepted ones, whose log Z then comes out too great, and KL too small: by .02 nats
    where `max_draws` is 5 times the mean number of draws, by .7 where it is just that. Of a run that was cut off,
    log Z is the logarithm of the draws' mean weight.
    """

    info: ClassVar[type[Info]] = RejectionInfo

    strategy: Literal["rejection"] = "rejection"
    beta: Beta = 1.0
    r_max: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="The raw reward's upper bound (of the weighted sum, for several)."
    )
    batch: int = Field(16, ge=1, le=256, description="Candidates drawn at a time.")
    max_draws: int = Field(256, ge=1, le=4096, description="Candidates for all results together.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(min(self.batch, self.max_draws), await self.rollouts_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        return full_length(sampling, self.max_draws) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        weights = models.resolve_rewards(self.reward)
        check_draws_differ(sampling, 2, "draws")
        if sampling.n > self.max_draws:
            raise InvalidRequest(
                f"{sampling.n} results take at least as many draws: raise max_draws or lower n.", "sampling.n"
            )
        if self.calibrated == (self.r_max is not None):
            raise InvalidRequest(
                "Rejection needs a bound: set calibrated, or else the raw reward's r_max.", "strategy.r_max"
            )
        if self.calibrated and any(weight < 0 for weight in weights.values()):
            raise InvalidRequest("The weights of calibrated rewards must not be negative.", "strategy.reward")
        if self.calibrated and len(weights) == 1 and not self.guides:
            [weight] = weights.values()
            draws = sampling.n * (expected_draws(self.transform, self.beta / weight) if weight else 1.0)
            if draws > self.max_draws:
                raise InvalidRequest(
                    f"With this transform and beta, {sampling.n} accepted results take about {draws:.0f} draws, over "
                    f"max_draws = {self.max_draws}: raise beta or max_draws.",
                    "strategy.max_draws",
                )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        run = await self.begin(prompt, models, sampling, rng)
        draws = _Draws(self._bound(run))
        while len(draws.accepted) < sampling.n and len(draws.scored) < self.max_draws:
            # 1. y ~ pi, a batch at a time.
            batch = await run.draw(min(self.batch, self.max_draws - len(draws.scored)))
            # 2. Accept y with probability exp((s(y) - s_max)/beta).
            for y in self._accepted(draws, run.objective.judge(batch), sampling.n, rng):
                yield Step(y.candidate, len(draws.accepted) - 1)
        with run.selecting():
            instead = self._instead(draws, sampling.n - len(draws.accepted), rng)
            choices = self._choices(draws, instead, sampling.n)
        for index, i in enumerate(instead, len(draws.accepted)):
            yield Step(draws.scored[i].candidate, index)
        yield await run.done(draws.scored, choices, mean_rewards=mean_rewards(draws.scored, run.names))

    def _bound(self, run: SearchRun) -> float:
        """Return s_max."""
        if self.r_max is not None:
            return self.r_max
        return math.fsum(w * run.objective.phi(1.0) for w in run.objective.weights.values())

    def _bounded(self, scored: ScoredCandidate, bound: float) -> ScoredCandidate:
        """Return the candidate with a total of at most `bound`.

        A sum of calibrated rewards is above it only where one is left out of it whose Phi is negative even at 1.

        Raise `InvalidRequest` for a raw reward above r_max: to go on would bias the draw without a sign of it.
        """
        if not scored.total > bound:
            return scored
        if self.r_max is not None:
            raise InvalidRequest(
                f"A reward of {scored.total:g} is above r_max = {bound:g}, which would bias the draw: raise it.",
                "strategy.r_max",
            )
        return replace(scored, total=bound)

    def _log_p(self, score: float, bound: float) -> float:
        """Return the log-probability to accept a draw of this score; -inf without a reward, or of weight zero."""
        return min(0.0, (score - bound) / self.beta) if math.isfinite(score) else -INF

    def _accepted(self, draws: _Draws, batch: Sequence[ScoredCandidate], n: int, rng: Rng) -> Iterator[ScoredCandidate]:
        """Take a batch of draws; yield each that is accepted, up to `n` in all."""
        draws.before = len(draws.scored), len(draws.accepted)
        for drawn in batch:
            y = self._bounded(drawn, draws.bound)
            draws.scored.append(y)
            log_p = self._log_p(y.total, draws.bound)
            if len(draws.accepted) < n and log_p > -INF and coin(log_p, rng):
                draws.accepted.append(len(draws.scored) - 1)
                yield y

    def _instead(self, draws: _Draws, count: int, rng: Rng) -> list[int]:
        """Return `count` softmax picks among the draws that were not accepted, for the results that have none."""
        left = [i for i, y in enumerate(draws.scored) if math.isfinite(y.total) and i not in draws.accepted]
        if len(left) < count:
            raise NoUsableReward(f"{len(left)} of {len(draws.scored)} draws are left to choose {count} results from.")
        picks: list[int] = []
        for _ in range(count):
            weights = Softmax(beta=self.beta).log_weights([draws.scored[i].total for i in left])
            picks.append(left.pop(rng.draw(weights)))
        return picks

    def _choices(self, draws: _Draws, instead: Sequence[int], n: int) -> list[Choice]:
        """Return the accepted draws and the picks instead, with the estimate of log Z and the KL that follows."""
        log_ps = [self._log_p(y.total, draws.bound) for y in draws.scored]
        if len(draws.accepted) == n:
            log_mean = log_rate(n, *draws.before, [math.exp(v) for v in log_ps[draws.before[0] :]])
        else:
            log_mean = logsumexp(log_ps) - math.log(len(log_ps))
        log_z = draws.bound / self.beta + log_mean
        known = {"draws": len(draws.scored), "log_z": log_z if math.isfinite(log_z) else None}
        accepted = [
            Choice(i, KL(log_ps[i] - log_mean, "tilt_log_ratio", pointwise=True), RejectionInfo(accepted=True, **known))
            for i in draws.accepted
        ]
        # The law of a softmax pick is unknown, and so is its KL.
        return accepted + [Choice(i, info=RejectionInfo(accepted=False, **known)) for i in instead]
