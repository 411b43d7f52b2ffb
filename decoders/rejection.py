"""Rejection sampling: the KL-regularised optimum, exactly.

    repeat: y ~ pi(. | x), accept y with probability exp((s(y) - s_max)/beta)

with s a calibrated, transformed reward, which is bounded, or a raw reward that is declared to be at most r_max.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step
from decoders.maths.acceptance import log_rate
from decoders.maths.logmath import INF, logsumexp
from decoders.maths.transforms import expected_draws
from decoders.models import Models
from decoders.parts.budget import times
from decoders.parts.divergence import distances, divergence, with_logprobs
from decoders.parts.scored_candidates import ScoredCandidates, mean_rewards
from decoders.parts.selection import Beta, Softmax
from decoders.search import Search


class Rejection(Search, frozen=True, extra="forbid"):
    """One exact draw from the tilted policy per result.

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

    strategy: Literal["rejection"] = "rejection"
    beta: Beta = 1.0
    r_max: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="The raw reward's upper bound (of the weighted sum, for several)."
    )
    batch: int = Field(16, ge=1, le=256, description="Candidates drawn at a time.")
    max_draws: int = Field(256, ge=1, le=4096, description="Candidates for all results together.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(min(self.batch, self.max_draws), await self.references_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        return times(sampling, self.max_draws) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        weights = models.resolve_rewards(self.reward)
        if sampling.is_greedy:
            raise InvalidRequest("At temperature 0 all draws would be the same: raise it.", "temperature")
        if sampling.n > self.max_draws:
            raise InvalidRequest(
                f"{sampling.n} results take at least as many draws: raise decoding.max_draws or lower n.", "n"
            )
        if self.calibrated == (self.r_max is not None):
            raise InvalidRequest(
                "Rejection needs a bound: set calibrated, or else the raw reward's r_max.", "decoding.r_max"
            )
        if self.calibrated and any(weight < 0 for weight in weights.values()):
            raise InvalidRequest("Calibrated rewards are weighed by what is not negative.", "decoding.reward")
        if self.calibrated and len(weights) == 1 and not self.guides:
            [weight] = weights.values()
            draws = sampling.n * (expected_draws(self.transform, self.beta / weight) if weight else 1.0)
            if draws > self.max_draws:
                raise InvalidRequest(
                    f"With this transform and beta, {sampling.n} accepted results take about {draws:.0f} draws, over "
                    f"max_draws = {self.max_draws}: raise beta or max_draws.",
                    "decoding.max_draws",
                )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        sampling = self.guided(models, sampling)
        draws = replace(with_logprobs(sampling) if self.return_kl and sampling.guides else sampling, n=1, stream=False)
        objective = await self.objective(prompt, models, draws, rng.fork())
        bound = (
            self.r_max
            if self.r_max is not None
            else math.fsum(w * objective.phi(1.0) for w in objective.weights.values())
        )
        pool = ScoredCandidates(objective.names)
        scored: list[Scored] = []
        accepted: list[int] = []
        before = (0, 0)  # draws and acceptances before the last batch
        while len(accepted) < sampling.n and len(scored) < self.max_draws:
            before = len(scored), len(accepted)
            await pool.draw(prompt, min(self.batch, self.max_draws - len(scored)), models, draws, rng)
            for i in range(len(scored), len(pool.candidates)):
                scored.append(self._bounded(objective.scored(pool.candidates[i], pool.rewards_of(i)), bound))
                if len(accepted) < sampling.n and self._accepts(scored[i].total, bound, rng):
                    accepted.append(i)
                    yield Step(scored[i].candidate, len(accepted) - 1)
        selecting = time.perf_counter()
        chosen = [*accepted, *self._instead(scored, accepted, sampling.n - len(accepted), rng)]
        for index in range(len(accepted), sampling.n):
            yield Step(scored[chosen[index]].candidate, index)
        logs = [self._log_p(s.total, bound) for s in scored]
        if len(accepted) == sampling.n:
            log_p = log_rate(sampling.n, *before, [math.exp(v) for v in logs[before[0] :]])
        else:
            log_p = logsumexp(logs) - math.log(len(logs))
        log_z = bound / self.beta + log_p
        selected = time.perf_counter()
        far, measuring = await distances(
            models, prompt, [scored[i].candidate for i in chosen], sampling, asked=self.return_kl
        )
        results = []
        for index, (i, d) in enumerate(zip(chosen, far, strict=True)):
            tilt = KL(logs[i] - log_p, "tilt_log_ratio", pointwise=True)
            known = divergence(tilt, d, sampling)
            results.append(
                Result(
                    scored[i].candidate,
                    rewards=scored[i].rewards,
                    calibrated=scored[i].calibrated,
                    kl=known if index < len(accepted) else None,  # of the picks instead, nobody knows the law
                    policy_logprob=None if d is None else d.policy_logprob,
                    draws=len(scored),
                    accepted=index < len(accepted),
                    log_z=log_z if math.isfinite(log_z) else None,
                    pool_mean=mean_rewards(pool),
                )
            )
        yield Done(
            tuple(results),
            cost=objective.cost + pool.cost + Cost(seconds={"select": selected - selecting}) + measuring,
            candidates=tuple(scored),
            chosen=tuple(chosen),
            rollouts=objective.rollouts,
        )

    def _bounded(self, scored: Scored, bound: float) -> Scored:
        """Return it with a score of at most `bound`.

        A sum of calibrated rewards is greater only where one is left out of it whose Phi is negative even at 1.

        Raise `InvalidRequest` for a raw reward above r_max: to go on would bias the draw, and nobody would know.
        """
        if not scored.total > bound:
            return scored
        if self.r_max is not None:
            raise InvalidRequest(
                f"A reward of {scored.total:g} is above r_max = {bound:g}, which would bias the draw: raise it.",
                "decoding.r_max",
            )
        return replace(scored, total=bound)

    def _log_p(self, score: float, bound: float) -> float:
        """The log-probability to accept a draw of this score."""
        if not math.isfinite(score):  # no reward, or a transform's zero weight
            return -INF
        return min(0.0, (score - bound) / self.beta)

    def _accepts(self, score: float, bound: float, rng: Rng) -> bool:
        log_p = self._log_p(score, bound)
        if log_p == -INF:
            return False
        return rng.draw([log_p, math.log(-math.expm1(log_p)) if log_p < 0 else -INF]) == 0

    def _instead(self, scored: Sequence[Scored], accepted: Sequence[int], count: int, rng: Rng) -> list[int]:
        """Softmax picks among the draws that were not accepted, for the results that have none."""
        left = [i for i, s in enumerate(scored) if math.isfinite(s.total) and i not in accepted]
        if len(left) < count:
            raise NoUsableReward(f"{len(left)} of {len(scored)} draws are left to choose {count} results from.")
        picks: list[int] = []
        for _ in range(count):
            weights = Softmax(beta=self.beta).log_weights([scored[i].total for i in left])
            picks.append(left.pop(rng.draw(weights)))
        return picks
