"""Best-of-N.

    y_1 .. y_N ~ pi(. | x);   r_i = r(x, y_i);   return y_i with i ~ select(r_1 .. r_N)

With `guides`, pi is the guided policy here; only a calibrated reward still means quantiles under the frozen one.

N is fixed, or 1 + Poisson(n - 1) [Best-of-Poisson], or whatever it takes until the best reward reaches `stop_at`.
"""

import math
import time
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from decoders.base import Decoder
from decoders.calibration import calibrate, leave_one_out
from decoders.core import Models, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step
from decoders.guidance import Distance, distances, with_logprobs
from decoders.pool import Pool, weighted_sum
from decoders.select import Argmax, Argmin, Select
from decoders.weights import atomic_kl, best_of_n_kl, normalise, poisson_log_pmf, ranked_kl, selection_kl


class BestOfN(Decoder, frozen=True, extra="forbid"):
    """The best of N samples by reward.

    Law, with p_<(y) = P(r < r(y)) and p_<=(y) = P(r <= r(y)) under pi, for argmax and a fixed N
    [Gui et al. 2024, BOND]:

        P_N(y) = pi(y) p_<=(y)^(N-1) sum_{i=1..N} (p_<(y) / p_<=(y))^(i-1)

    argmin is the same law of -r. softmax is self-normalised importance resampling, which only tends to
    pi exp(r/beta) / Z as N grows; pessimistic is the law of Huang et al. 2025. Poisson mixes P_N over N (its tail
    beyond 1e-12 is cut). With `stop_at` the law is between P_batch and P_N, and no longer P_N: a reward already
    good enough ends the search. With `calibrated`, r is replaced by its estimated quantile under pi, which makes
    several comparable; it never falls as r rises, but rewards with no rollout between them tie.

    A candidate whose reward is not finite is out. With n results, each further one is chosen by the same rule
    from the candidates that are left.
    """

    strategy: Literal["best_of_n"] = "best_of_n"
    n: int = Field(8, ge=1, le=256, description="Candidates; the mean of their number with `poisson`.")
    poisson: bool = Field(False, description="Draw 1 + Poisson(n - 1) candidates.")
    select: Select = Field(default_factory=Argmax, description="How the answer is chosen.")
    calibrated: bool = Field(False, description="Compare quantiles under the policy instead of raw rewards.")
    rollouts: Annotated[int, Field(ge=0, le=1024)] = Field(
        100,
        description="Policy samples behind a calibrated reward; 0 compares the candidates with each other.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Draw this many at a time; by default all at once, or 4 with `stop_at`."
    )
    stop_at: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Stop drawing once the best (calibrated or raw) reward is at least this."
    )

    def sequences(self, n: int) -> int:  # noqa: ARG002
        return self._batch + (self.rollouts if self.calibrated else 0)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        models.weights(self.reward)
        if sampling.is_greedy and self.n > 1:
            raise InvalidRequest("At temperature 0 all candidates would be the same: raise it.", "temperature")
        if sampling.n > self.n:
            raise InvalidRequest(
                f"{sampling.n} results are asked of {self.n} candidates: raise decoding.n or lower n.", "n"
            )
        if self.poisson and sampling.n > 1:
            raise InvalidRequest("A Poisson number of candidates gives one result: leave n at 1.", "n")
        if self.calibrated and self.rollouts == 0 and self.stop_at is not None:
            raise InvalidRequest(
                "The best candidate's quantile among the candidates is always near 1: stop_at needs rollouts.",
                "decoding.rollouts",
            )
        if isinstance(self.select, Argmin) and self.stop_at is not None:
            raise InvalidRequest("stop_at waits for a great reward; argmin looks for a small one.", "decoding.stop_at")

    @property
    def _batch(self) -> int:
        default = self.n if self.stop_at is None else 4
        return min(self.batch or default, self.n)

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        weights = models.weights(self.reward)
        limit = 1 + rng.draw(poisson_log_pmf(self.n - 1)) if self.poisson else self.n
        sampling = self.guided(models, sampling)
        draws = replace(with_logprobs(sampling) if self.return_kl else sampling, n=1, stream=False)
        rollouts = self.rollouts if self.calibrated else 0

        everything = Pool(weights)  # the rollouts, then the candidates: one engine call draws both, of one law
        if rollouts and sampling.guides:
            await everything.draw(prompt, rollouts, models, replace(draws, guides={}), rng)
        while len(everything.candidates) < rollouts + limit:
            size = min(self._batch, rollouts + limit - max(len(everything.candidates), rollouts))
            first = 0 if everything.candidates else rollouts
            await everything.draw(prompt, first + size, models, draws, rng)
            reference, pool = everything.split(rollouts)
            totals, calibrated = self._totals(pool, reference)
            usable = _finite(totals)
            enough = len(usable) >= sampling.n
            if self.stop_at is not None and enough and max(usable) >= self.stop_at:
                break

        selecting = time.perf_counter()
        chosen, kls = self._choose(totals, sampling.n, limit, rng)
        # Where a candidate is out, the law also depends on how often that happens, which nobody knows.
        known = all(map(math.isfinite, totals))
        means = {name: _mean(values) for name, values in pool.rewards.items()}
        scored = tuple(
            Scored(
                candidate,
                rewards={name: pool.rewards[name][i] for name in weights},
                total=totals[i],
                calibrated=None if calibrated is None else {name: calibrated[name][i] for name in weights},
            )
            for i, candidate in enumerate(pool.candidates)
        )
        for index, i in enumerate(chosen):
            yield Step(scored[i].candidate, index)
        selected = time.perf_counter()
        answers = [scored[i].candidate for i in chosen]
        far = await distances(models, prompt, answers, sampling, asked=self.return_kl)
        measured = time.perf_counter()
        results = tuple(
            Result(
                scored[i].candidate,
                rewards=scored[i].rewards,
                calibrated=scored[i].calibrated,
                kl=self._kl(kl, scored[i], rank, limit, sampling, d) if known else None,
                policy_logprob=None if d is None else d.policy_logprob,
                draws=len(scored),
                pool_mean=means,
            )
            for rank, (i, kl, d) in enumerate(zip(chosen, kls, far, strict=True), 1)
        )
        yield Done(
            results,
            cost=Cost(
                candidates=len(everything.candidates),
                generated_tokens=sum(len(c.tokens) for c in everything.candidates),
                scored_tokens=everything.scored_tokens + sum(d.scored_tokens for d in far if d),
                seconds={
                    "generate": everything.generate_seconds,
                    "score": everything.score_seconds + measured - selected,
                    "select": selected - selecting,
                },
            ),
            candidates=scored,
            chosen=chosen,
        )

    def _totals(self, pool: Pool, reference: Pool) -> tuple[list[float], dict[str, list[float]] | None]:
        """The number each candidate is judged by, and the calibrated rewards behind it."""
        if not self.calibrated:
            return weighted_sum(pool.rewards, pool.weights), None
        calibrated = {
            name: calibrate(values, reference.rewards[name]) if self.rollouts else leave_one_out(values)
            for name, values in pool.rewards.items()
        }
        return weighted_sum(calibrated, pool.weights), calibrated

    def _choose(self, totals: list[float], n: int, limit: int, rng: Rng) -> tuple[tuple[int, ...], list[float]]:
        """`n` candidates in order of choice, and `selection_kl` of each choice among `limit` draws.

        Draws that early stopping saved, and those already chosen, count as draws chosen with probability zero.
        """
        left = [i for i, total in enumerate(totals) if math.isfinite(total)]
        if len(left) < n:
            raise NoUsableReward(
                f"{len(left)} of {len(totals)} candidates have a finite reward, and {n} results are asked for."
            )
        chosen: list[int] = []
        kls: list[float] = []
        for _ in range(n):
            log_weights = self.select.log_weights([totals[i] for i in left])
            kls.append(selection_kl(normalise(log_weights), limit))
            chosen.append(left.pop(rng.draw(log_weights)))
        return tuple(chosen), kls

    def _kl(
        self, choice: float, scored: Scored, rank: int, limit: int, sampling: Sampling, distance: Distance | None
    ) -> KL | None:
        """KL of this result's law to the frozen policy's: that of the choice, and under guides the distance besides."""
        kl = self._choice_kl(choice, scored, rank, limit, sampling)
        if not sampling.guides:
            return kl
        return None if distance is None else distance.beyond(kl)

    def _choice_kl(self, selection: float, scored: Scored, rank: int, limit: int, sampling: Sampling) -> KL:
        """KL of this result's law to that of the draws. See `decoders.weights` for each estimator's claim.

        Order statistics bound argmax and argmin. For the first result they bound any choice among `limit` draws, early
        stopping included; for a further one only a choice among all of them, by an order that they do not set.
        """
        relative = self.calibrated and self.rollouts == 0 and len(scored.rewards) > 1
        ordered = isinstance(self.select, Argmax | Argmin)
        if not ordered or (rank > 1 and (relative or self.stop_at is not None)):
            return KL(selection, "selection_bound")
        if rank > 1:
            return KL(ranked_kl(limit, rank), "order_statistic_bound")
        logprobs = scored.candidate.logprobs
        if logprobs is not None and sampling.is_policy_law and self.stop_at is None:
            return KL(atomic_kl(limit, math.fsum(t.logprob for t in logprobs)), "atomic")
        return KL(best_of_n_kl(limit), "order_statistic_bound")


def _finite(values: list[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]


def _mean(values: list[float]) -> float:
    finite = _finite(values)
    return sum(finite) / len(finite) if finite else math.nan
