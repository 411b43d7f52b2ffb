"""Rejection sampling: the KL-regularised optimum, exactly.

    repeat: y ~ pi(. | x), accept y with probability exp((s(y) - s_max)/beta)

with s a calibrated, transformed reward, which is bounded, or a raw reward that is declared to be at most r_max.
"""

import math
import time
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from decoders.base import Decoder
from decoders.core import Models, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step
from decoders.guidance import distances, with_logprobs
from decoders.pool import Pool, weighted_sum
from decoders.rollouts import Rollouts, rollouts
from decoders.select import Beta, Softmax
from decoders.transforms import Identity, Transform, expected_draws
from decoders.weights import INF, logsumexp


class Rejection(Decoder, frozen=True, extra="forbid"):
    """One exact draw from the tilted policy per result.

    Law: pi(y|x) exp(s(x,y)/beta) / Z(x), the optimum of E[s] - beta KL(.||pi) [Korbel et al. 2022], with pi guided
    where the request names guides. With `calibrated`, s = Phi(C) for the C that the rollouts estimate, and since these
    are no candidates, the law is exact for that C. With `r_max`, s is the raw reward, and the law is exact if it is a
    true bound: a reward above it ends the request in an error. What breaks it is `max_draws`: a result that was not
    accepted by then is the softmax pick among the draws, and says `accepted: false`. A candidate without a finite
    reward is never accepted.
    """

    strategy: Literal["rejection"] = "rejection"
    beta: Beta = 1.0
    r_max: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="The raw reward's upper bound (of the weighted sum, for several)."
    )
    calibrated: bool = Field(False, description="Tilt by the reward's quantile under the policy.")
    transform: Transform = Field(default_factory=Identity, description="Of the calibrated reward.")
    rollouts: int = Field(100, ge=1, le=1024, description="Policy samples behind a calibrated reward.")
    batch: int = Field(16, ge=1, le=256, description="Candidates drawn at a time.")
    max_draws: int = Field(256, ge=1, le=4096, description="Candidates for all results together.")

    def sequences(self, n: int) -> int:  # noqa: ARG002
        return max(min(self.batch, self.max_draws), self.rollouts if self.calibrated else 0)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        weights = models.weights(self.reward)
        if sampling.is_greedy:
            raise InvalidRequest("At temperature 0 all draws would be the same: raise it.", "temperature")
        if self.calibrated == (self.r_max is not None):
            raise InvalidRequest(
                "Rejection needs a bound: set calibrated, or else the raw reward's r_max.", "decoding.r_max"
            )
        if not self.calibrated and not isinstance(self.transform, Identity):
            raise InvalidRequest("A transform is of a calibrated reward: set calibrated.", "decoding.transform")
        if self.calibrated and any(weight < 0 for weight in weights.values()):
            raise InvalidRequest("Calibrated rewards are weighed by what is not negative.", "decoding.reward")
        if self.calibrated and len(weights) == 1:
            [weight] = weights.values()
            draws = sampling.n * expected_draws(self.transform, self.beta / weight) if weight else sampling.n
            if draws > self.max_draws:
                raise InvalidRequest(
                    f"With this transform and beta, {sampling.n} accepted results take about {draws:.0f} draws, over "
                    f"max_draws = {self.max_draws}: raise beta or max_draws.",
                    "decoding.max_draws",
                )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        sampling = self.guided(models, sampling)
        weights = models.weights(self.reward)
        draws = replace(with_logprobs(sampling) if self.return_kl and sampling.guides else sampling, n=1, stream=False)
        reference = None
        if self.calibrated:
            reference = await rollouts(self.rollouts, prompt, models, weights, draws, rng)
        pool = Pool(weights)
        scores: list[float] = []
        accepted: list[int] = []
        while len(accepted) < sampling.n and len(pool.candidates) < self.max_draws:
            seen = len(pool.candidates)
            await pool.draw(prompt, min(self.batch, self.max_draws - seen), models, draws, rng)
            scores = self._scores(pool, reference)
            for i in range(seen, len(scores)):
                if len(accepted) < sampling.n and self._accepts(scores[i], weights, rng):
                    accepted.append(i)
                    yield Step(pool.candidates[i], len(accepted) - 1)
        selecting = time.perf_counter()
        chosen = [*accepted, *self._instead(scores, accepted, sampling.n - len(accepted), rng)]
        for index in range(len(accepted), sampling.n):
            yield Step(pool.candidates[chosen[index]], index)
        selected = time.perf_counter()
        far = await distances(models, prompt, [pool.candidates[i] for i in chosen], sampling, asked=self.return_kl)
        log_z = logsumexp([s / self.beta if math.isfinite(s) else -INF for s in scores]) - math.log(len(scores))
        quantiles = None if reference is None else reference.calibrated(pool.rewards)
        scored = tuple(
            Scored(
                candidate,
                {name: values[i] for name, values in pool.rewards.items()},
                scores[i],
                None if quantiles is None else {name: values[i] for name, values in quantiles.items()},
            )
            for i, candidate in enumerate(pool.candidates)
        )
        results = []
        for index, (i, d) in enumerate(zip(chosen, far, strict=True)):
            tilt = KL(scores[i] / self.beta - log_z, "tilt_log_ratio")
            results.append(
                Result(
                    scored[i].candidate,
                    rewards=scored[i].rewards,
                    calibrated=scored[i].calibrated,
                    kl=tilt if not sampling.guides else None if d is None else d.beyond(tilt),
                    policy_logprob=None if d is None else d.policy_logprob,
                    draws=len(scored),
                    accepted=index < len(accepted),
                    log_z=log_z,
                )
            )
        extra = reference.drawn if reference is not None else Pool({})
        yield Done(
            tuple(results),
            cost=Cost(
                candidates=len(scored) + len(extra.candidates),
                generated_tokens=sum(len(c.tokens) for c in (*pool.candidates, *extra.candidates)),
                scored_tokens=pool.scored_tokens + extra.scored_tokens + sum(d.scored_tokens for d in far if d),
                seconds={
                    "generate": pool.generate_seconds + extra.generate_seconds,
                    "score": pool.score_seconds + extra.score_seconds + time.perf_counter() - selected,
                    "select": selected - selecting,
                },
            ),
            candidates=scored,
            chosen=tuple(chosen),
        )

    def _scores(self, pool: Pool, reference: Rollouts | None) -> list[float]:
        """s of each candidate so far. Raises `InvalidRequest` for a raw reward above r_max."""
        if reference is None:
            assert self.r_max is not None
            scores = weighted_sum(pool.rewards, pool.weights)
            above = max((s for s in scores if math.isfinite(s)), default=-INF)
            if above > self.r_max:
                raise InvalidRequest(
                    f"A reward of {above:g} is above r_max = {self.r_max:g}, which would bias the draw: raise it.",
                    "decoding.r_max",
                )
            return scores
        quantiles = reference.calibrated(pool.rewards)
        phi = self.transform
        transformed = {name: [phi(u) if math.isfinite(u) else math.nan for u in us] for name, us in quantiles.items()}
        return weighted_sum(transformed, pool.weights)

    def _bound(self, weights: dict[str, float]) -> float:
        if self.r_max is not None:
            return self.r_max
        return math.fsum(weight * self.transform(1.0) for weight in weights.values())

    def _accepts(self, score: float, weights: dict[str, float], rng: Rng) -> bool:
        if not math.isfinite(score):  # no reward, or a transform's zero weight
            return False
        log_p = min(0.0, (score - self._bound(weights)) / self.beta)
        return rng.draw([log_p, math.log(-math.expm1(log_p)) if log_p < 0 else -INF]) == 0

    def _instead(self, scores: list[float], accepted: list[int], count: int, rng: Rng) -> list[int]:
        """Softmax picks among the draws that were not accepted, for the results that have none."""
        left = [i for i, s in enumerate(scores) if math.isfinite(s) and i not in accepted]
        if len(left) < count:
            raise NoUsableReward(f"{len(left)} of {len(scores)} draws are left to choose {count} results from.")
        picks: list[int] = []
        for _ in range(count):
            weights = Softmax(beta=self.beta).log_weights([scores[i] for i in left])
            picks.append(left.pop(rng.draw(weights)))
        return picks
