"""Best-of-N.

    y_1 .. y_N ~ pi(. | x);   r_i = r(x, y_i);   return y_i with i ~ select(r_1 .. r_N)

With `guides`, pi is the guided policy here, and with `proposal` it is the law of another strategy; only a calibrated
reward still means quantiles under the frozen one.

N is fixed, or 1 + Poisson(n - 1) [Best-of-Poisson], or whatever it takes until the best reward reaches `stop_at`.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step, VoteShare
from decoders.maths.logmath import atomic_kl, best_of_n_kl, normalise, poisson_log_pmf, ranked_kl, selection_kl
from decoders.maths.quantiles import leave_one_out
from decoders.models import Models
from decoders.parts.budget import times
from decoders.parts.concurrency import both
from decoders.parts.divergence import Distance, distances, divergence, with_logprobs
from decoders.parts.objective import Objective
from decoders.parts.scored_candidates import ScoredCandidates, mean_rewards
from decoders.parts.selection import Argmax, Argmin, Pessimistic, Softmax
from decoders.parts.vote import Vote
from decoders.search import Search

Select = Annotated[Argmax | Argmin | Softmax | Pessimistic | Vote, Field(discriminator="by")]


class FlatBestOfN(Search, frozen=True, extra="forbid"):
    """Best-of-N over draws from the policy, guided or not; its law is that of `decoders.proposal.BestOfN`."""

    independent: ClassVar[bool] = False

    strategy: Literal["best_of_n"] = "best_of_n"
    n: int = Field(8, ge=1, le=256, description="Candidates; the mean of their number with `poisson`.")
    poisson: bool = Field(False, description="Draw 1 + Poisson(n - 1) candidates.")
    select: Select = Field(default_factory=Argmax, description="How the answer is chosen.")
    rollouts: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None,
        description="Policy samples behind a calibrated reward; 0 compares the candidates with each other. By default "
        "as many as the server's store is for, or 100.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Draw this many at a time; by default all at once, or 4 with `stop_at`."
    )
    stop_at: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Stop drawing once the best reward, or quantile if calibrated, is at least this."
    )

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return self._batch + await self.references_at_once(prompt, models, sampling)

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        return times(sampling, self._limit) + self.max_rollout_cost(sampling, models)

    def reward_weights(self, models: Models) -> dict[str, float]:
        if isinstance(self.select, Vote) and self.select.beta is None and self.reward is None and not models.rewards:
            return {}  # a plain majority needs no reward
        return super().reward_weights(models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        if sampling.is_greedy and self.n > 1:
            raise InvalidRequest("At temperature 0 all candidates would be the same: raise it.", "temperature")
        if sampling.n > self.n:
            raise InvalidRequest(
                f"{sampling.n} results are asked of {self.n} candidates: raise decoding.n or lower n.", "n"
            )
        if self.poisson and sampling.n > 1:
            raise InvalidRequest("A Poisson number of candidates gives one result: leave n at 1.", "n")
        if self._among_themselves and self.stop_at is not None:
            raise InvalidRequest(
                "The best candidate's quantile among the candidates is always near 1: stop_at needs rollouts.",
                "decoding.rollouts",
            )
        if isinstance(self.select, Argmin | Vote) and self.stop_at is not None:
            raise InvalidRequest(
                f"stop_at waits for a great reward, which is not what {self.select.by} looks for.", "decoding.stop_at"
            )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        limit = 1 + rng.draw(poisson_log_pmf(self.n - 1)) if self.poisson else self.n
        sampling = self.guided(models, sampling)
        draws = replace(with_logprobs(sampling) if self.return_kl else sampling, n=1, stream=False)

        async def draw() -> None:
            size = min(self._batch, limit - len(drawn))
            drawn.extend(await self._draw(pool, size, prompt, models, draws, rng))

        pool = ScoredCandidates(list(self.reward_weights(models)))
        drawn: list[Result] = []
        started = time.perf_counter()
        objective, _ = await both(self.objective(prompt, models, draws, rng.fork()), draw())
        cost = Cost.at_once((objective.cost, pool.cost), time.perf_counter() - started)
        pool.cost = Cost()
        scored = self._scored(pool, objective)
        while len(drawn) < limit and not self._enough(scored, objective, sampling.n):
            await draw()
            scored = self._scored(pool, objective)

        selecting = time.perf_counter()
        chosen, kls = self._choose(scored, sampling.n, limit, rng)
        for index, i in enumerate(chosen):
            yield Step(scored[i].candidate, index)
        selected = time.perf_counter()
        answers = [scored[i].candidate for i in chosen]
        measured = self.return_kl and self._draws_are_the_policys
        far, measuring = await distances(models, prompt, answers, sampling, asked=measured)
        known = self.keeps_all(models) and all(math.isfinite(s.total) for s in scored)
        means = mean_rewards(pool)
        results = tuple(
            replace(
                drawn[i],
                candidate=scored[i].candidate,
                rewards=scored[i].rewards,
                calibrated=scored[i].calibrated,
                kl=self._kl(self._choice_kl(kl, scored[i], rank, limit, sampling), drawn[i], d, sampling)
                if known
                else None,
                policy_logprob=drawn[i].policy_logprob if d is None else d.policy_logprob,
                draws=len(scored),
                pool_mean=means,
                vote=self._vote(scored, i),
            )
            for rank, (i, kl, d) in enumerate(zip(chosen, kls, far, strict=True), 1)
        )
        yield Done(
            results,
            cost=cost + pool.cost + Cost(seconds={"select": selected - selecting}) + measuring,
            candidates=tuple(scored),
            chosen=chosen,
            rollouts=objective.rollouts,
        )

    async def objective(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Objective:
        if self._among_themselves:
            return Objective(self.reward_weights(models), self.transform)
        return await super().objective(prompt, models, sampling, rng)

    @property
    def _among_themselves(self) -> bool:
        return self.calibrated and self.rollouts == 0

    @property
    def _batch(self) -> int:
        default = self.n if self.stop_at is None else 4
        return min(self.batch or default, self.n)

    @property
    def _limit(self) -> int:
        """The most candidates it draws."""
        return len(poisson_log_pmf(self.n - 1)) if self.poisson else self.n

    async def _draw(
        self, pool: ScoredCandidates, n: int, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng
    ) -> list[Result]:
        """`n` more candidates into the pool, and what is known of each."""
        await pool.draw(prompt, n, models, sampling, rng)
        return [Result(candidate) for candidate in pool.candidates[-n:]]

    def _scored(self, pool: ScoredCandidates, objective: Objective) -> list[Scored]:
        """The candidates, each with the number it is judged by."""
        if not self._among_themselves:
            return [objective.scored(candidate, pool.rewards_of(i)) for i, candidate in enumerate(pool.candidates)]
        quantiles = {name: leave_one_out(values) for name, values in pool.rewards.items()}
        return [
            objective.given(candidate, pool.rewards_of(i), {name: values[i] for name, values in quantiles.items()})
            for i, candidate in enumerate(pool.candidates)
        ]

    def _enough(self, scored: Sequence[Scored], objective: Objective, n: int) -> bool:
        """Whether `n` of them can be used, and the best is good enough to stop at."""
        if self.stop_at is None:
            return False
        levels = [objective.level(s) for s in scored if math.isfinite(s.total)]
        return len(levels) >= n and max(levels) >= self.stop_at

    def _choose(self, scored: Sequence[Scored], n: int, limit: int, rng: Rng) -> tuple[tuple[int, ...], list[float]]:
        """`n` candidates in order of choice, and `selection_kl` of each choice among `limit` draws.

        Draws that early stopping saved, and those already chosen, count as draws chosen with probability zero.
        """
        left = [i for i, s in enumerate(scored) if math.isfinite(s.total)]
        if len(left) < n:
            raise NoUsableReward(
                f"{len(left)} of {len(scored)} candidates have a finite reward, and {n} results are asked for."
            )
        chosen: list[int] = []
        kls: list[float] = []
        for _ in range(n):
            log_weights = self._log_weights([scored[i] for i in left])
            kls.append(selection_kl(normalise(log_weights), limit))
            chosen.append(left.pop(rng.draw(log_weights)))
        return tuple(chosen), kls

    def _log_weights(self, left: Sequence[Scored]) -> list[float]:
        totals = [s.total for s in left]
        if isinstance(self.select, Vote):
            return self.select.log_weights(totals, [s.candidate.text for s in left])
        return self.select.log_weights(totals)

    def _vote(self, scored: Sequence[Scored], i: int) -> VoteShare | None:
        if not isinstance(self.select, Vote):
            return None
        usable = [j for j, s in enumerate(scored) if math.isfinite(s.total)]
        totals, texts = [scored[j].total for j in usable], [scored[j].candidate.text for j in usable]
        return self.select.of(usable.index(i), totals, texts)

    @property
    def _draws_are_the_policys(self) -> bool:
        return True

    def _kl(self, choice: KL, drawn: Result, distance: Distance | None, sampling: Sampling) -> KL | None:  # noqa: ARG002
        """KL of this result's law: that of the choice, and the draws' own distance from the frozen policy besides."""
        return divergence(choice, distance, sampling)

    def _choice_kl(self, selection: float, scored: Scored, rank: int, limit: int, sampling: Sampling) -> KL:
        """KL of this result's law to that of the draws. See `decoders.maths.logmath` for each estimator's claim.

        Order statistics bound argmax and argmin. For the first result they bound any choice among `limit` draws, early
        stopping included; for a further one only a choice among all of them, by an order that they do not set.
        """
        relative = self._among_themselves and len(scored.rewards) > 1
        ordered = isinstance(self.select, Argmax | Argmin)
        if not ordered or (rank > 1 and (relative or self.stop_at is not None)):
            return KL(selection, "selection_bound")
        if rank > 1:
            return KL(ranked_kl(limit, rank), "order_statistic_bound")
        logprobs = scored.candidate.logprobs
        if logprobs is not None and sampling.is_policy_law and self.stop_at is None and self._draws_are_the_policys:
            return KL(atomic_kl(limit, math.fsum(t.logprob for t in logprobs)), "atomic")
        return KL(best_of_n_kl(limit), "order_statistic_bound")
