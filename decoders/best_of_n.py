"""Best-of-N.

1. N fixed, or 1 + Poisson(n - 1) [Best-of-Poisson]
2. y_1 .. y_N ~ p(. | x), or fewer, once the best reward reaches `stop_at`;   r_i = r(x, y_i)
3. return y_i with i ~ select(r_1 .. r_N)

Here p is the policy pi, guided where the request names guides, or the law of another strategy, the `proposal`. With
`rejection` over a calibrated, transformed reward as the proposal this is InfAlign's inference-aware policy [Balashankar
et al. 2024] without its training: tilt by Phi(C)/beta, then best-of-N. A calibrated reward means quantiles under the
frozen policy in any case.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from decoders.base import Decoder
from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Info, Run, ScoredCandidate, Step
from decoders.maths.logmath import atomic_kl, best_of_n_kl, normalise, poisson_log_pmf, ranked_kl, selection_kl
from decoders.models import Models
from decoders.parts.budget import full_length
from decoders.parts.objective import Objective, Peers
from decoders.parts.results import Choice
from decoders.parts.scored_candidates import mean_rewards
from decoders.parts.search_run import SearchRun
from decoders.parts.selection import Argmax, Argmin, Pessimistic, Softmax
from decoders.parts.vote import Vote, VoteShare
from decoders.proposal import check_proposal, propose, runs_of
from decoders.search import RewardSearch, RolloutCount, check_draws_differ

if TYPE_CHECKING:
    Strategy = Decoder  # any of `decoders.STRATEGIES`, which is where this name gets its meaning

Select = Annotated[Argmax | Argmin | Softmax | Pessimistic | Vote, Field(discriminator="by")]


class BestOfNInfo(Info, frozen=True):
    draws: int = Field(description="Candidates drawn, for all results of the prompt together.")
    vote: VoteShare | None = Field(None, description="With `select` by vote: the answer read, and its share.")


class BestOfN(RewardSearch, frozen=True, extra="forbid"):
    """The best of N samples by reward, or of N answers of another strategy.

    Law, with p_<(y) = P(r < r(y)) and p_<=(y) = P(r <= r(y)) under pi, for argmax and a fixed N
    [Gui et al. 2024, BOND]:

        P_N(y) = pi(y) p_<=(y)^(N-1) sum_{i=1..N} (p_<(y) / p_<=(y))^(i-1)

    argmin is the same law of -r. softmax is self-normalised importance resampling, which only tends to
    pi exp(r/beta) / Z as N grows; pessimistic is the law of Huang et al. 2025; vote returns the majority's answer, and
    its law is that of the count. Poisson mixes P_N over N (its tail beyond 1e-12 is cut). With `stop_at` the law is
    between P_batch and P_N, and no longer P_N: a reward already good enough ends the search. With `calibrated`, r is
    replaced by Phi of its estimated quantile under pi, which makes several comparable; it never falls as r rises, but
    rewards with no rollout between them tie. With `proposal`, pi is that strategy's law everywhere above but in a
    quantile; its answers are independent, or, where it is calibrated, independent given the rollouts they share.

    A candidate without a finite reward cannot be chosen. Where that can happen no KL is reported, since another
    candidate must then have one. Each further result is chosen by the same rule from the candidates that are left.
    """

    independent: ClassVar[bool] = False
    info: ClassVar[type[Info]] = BestOfNInfo

    strategy: Literal["best_of_n"] = "best_of_n"
    n: int = Field(8, ge=1, le=256, description="Candidates; the mean of their number with `poisson`.")
    poisson: bool = Field(False, description="Draw 1 + Poisson(n - 1) candidates.")
    select: Select = Field(default_factory=Argmax, description="How the answer is chosen.")
    rollouts: RolloutCount | Literal["candidates"] | None = Field(
        None,
        description="Policy samples behind a calibrated reward; 'candidates' compares the candidates with each other. "
        "By default as many as the server's store is for, or 100.",
    )
    batch: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Draw this many at a time; by default all at once, or 4 with `stop_at`."
    )
    stop_at: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Stop drawing once the best reward, or quantile if calibrated, is at least this."
    )
    proposal: "Strategy | None" = Field(
        None, description="The strategy whose answers it chooses among; any but one with a proposal of its own."
    )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        if isinstance(self.select, Vote):
            self.select.check(prompt)
        # 1. N, or the most that early stopping may draw.
        limit = 1 + rng.draw(poisson_log_pmf(self.n - 1)) if self.poisson else self.n
        run = self.new_run(prompt, models, sampling, rng)
        draw = run.draw if self.proposal is None else partial(propose, self.proposal, run=run)
        # 2. y_i ~ p in batches, each scored as it finishes; the rollouts of the objective beside the first batch.
        objective = self.objective(run, rng.fork())
        drawn = await run.set_objective_during(objective, draw(min(self._batch, limit)))
        candidates = run.objective.judge(drawn)
        while len(drawn) < limit and not self._enough(candidates, run.objective, sampling.n):
            drawn += await draw(min(self._batch, limit - len(drawn)))
            candidates = run.objective.judge(drawn)
        # 3. i ~ select(r_1 .. r_N).
        with run.selecting():
            chosen, kls = self._select(candidates, limit, run)
        for index, i in enumerate(chosen):
            yield Step(candidates[i].candidate, index)
        choices = self._choices(candidates, chosen, kls, limit, run)
        yield await run.done(candidates, choices, mean_rewards=mean_rewards(drawn, run.names))

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        width = self._batch
        if self.proposal is not None:
            runs, each = runs_of(self.proposal, self._batch)
            width = runs * await self.proposal.max_sequences(prompt, models, replace(sampling, n=each))
        return width + await self.rollouts_at_once(prompt, models, sampling)

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        if self.proposal is None:
            return full_length(sampling, self._max_draws) + self.max_rollout_cost(sampling, models)
        cost = self.max_rollout_cost(sampling, models)
        for begin in range(0, self._max_draws, self._batch):
            runs, each = runs_of(self.proposal, min(self._batch, self._max_draws - begin))
            cost = sum([self.proposal.max_cost(replace(sampling, n=each), models)] * runs, cost)
        return cost

    def reward_weights(self, models: Models) -> dict[str, float]:
        if isinstance(self.select, Vote) and self.select.beta is None and self.reward is None and not models.rewards:
            return {}  # a plain majority needs no reward
        return super().reward_weights(models)

    def wants_logprobs(self, sampling: Sampling) -> bool:  # noqa: ARG002
        return self.return_kl

    async def objective(self, run: SearchRun, rng: Rng) -> Objective:
        if self._compares_candidates:
            return Objective(self.reward_weights(run.models), self.transform, Peers())
        return await super().objective(run, rng)

    def max_rollouts(self, models: Models) -> int:
        return 0 if self._compares_candidates else super().max_rollouts(models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_draws_differ(sampling, self.n, "candidates")
        if sampling.n > self.n:
            message = f"{sampling.n} results are asked of {self.n} candidates: draw more, or ask for fewer."
            raise InvalidRequest(message, "sampling.n")
        if self.poisson and sampling.n > 1:
            raise InvalidRequest("A Poisson number of candidates gives one result: leave n at 1.", "sampling.n")
        if self._compares_candidates and self.stop_at is not None:
            message = "The best candidate's quantile among the candidates is always near 1: stop_at needs rollouts."
            raise InvalidRequest(message, "strategy.rollouts")
        if isinstance(self.select, Argmin | Vote) and self.stop_at is not None:
            message = f"stop_at waits for a great reward, which is not what {self.select.by} looks for."
            raise InvalidRequest(message, "strategy.stop_at")
        if self.proposal is not None:
            if self.guides:
                raise InvalidRequest("The proposal draws the candidates: name its guides there.", "strategy.guides")
            check_proposal(self.proposal, models, sampling, self._batch)

    @property
    def rollout_count(self) -> int | None:
        return None if self.rollouts == "candidates" else self.rollouts

    @property
    def _compares_candidates(self) -> bool:
        return self.calibrated and self.rollouts == "candidates"

    @property
    def _batch(self) -> int:
        return min(self.batch or (self.n if self.stop_at is None else 4), self.n)

    @property
    def _max_draws(self) -> int:
        return len(poisson_log_pmf(self.n - 1)) if self.poisson else self.n

    def _enough(self, candidates: Sequence[ScoredCandidate], objective: Objective, n: int) -> bool:
        """Return whether `n` candidates can be used, and the best is good enough to stop at."""
        levels = [objective.level(c) for c in candidates if math.isfinite(c.total)]
        return self.stop_at is not None and len(levels) >= n and max(levels) >= self.stop_at

    def _select(
        self, candidates: Sequence[ScoredCandidate], limit: int, run: SearchRun
    ) -> tuple[list[int], list[float]]:
        """Return the results in order of choice, and `selection_kl` of each choice among `limit` draws.

        Draws that early stopping saved, and those already chosen, count as draws chosen with probability zero.
        """
        n = run.sampling.n
        left = [i for i, c in enumerate(candidates) if math.isfinite(c.total)]
        if len(left) < n:
            message = f"{len(left)} of {len(candidates)} candidates have a finite reward; {n} results are asked for."
            raise NoUsableReward(message)
        chosen, kls = list[int](), list[float]()
        for _ in range(n):
            log_weights = self._log_weights([candidates[i] for i in left], run.prompt)
            kls.append(selection_kl(normalise(log_weights), limit))
            chosen.append(left.pop(run.rng.draw(log_weights)))
        return chosen, kls

    def _log_weights(self, left: Sequence[ScoredCandidate], prompt: Prompt) -> list[float]:
        totals = [c.total for c in left]
        if isinstance(self.select, Vote):
            return self.select.log_weights(totals, [prompt.reply(c.candidate) for c in left])
        return self.select.log_weights(totals)

    def _choices(
        self,
        candidates: Sequence[ScoredCandidate],
        chosen: Sequence[int],
        kls: Sequence[float],
        limit: int,
        run: SearchRun,
    ) -> list[Choice]:
        known = self.keeps_all(run.models) and all(math.isfinite(c.total) for c in candidates)
        return [
            Choice(
                i,
                self._kl(nats, candidates[i], rank, limit, run.sampling) if known else None,
                BestOfNInfo(draws=len(candidates), vote=self._vote_share(candidates, i, run.prompt)),
            )
            for rank, (i, nats) in enumerate(zip(chosen, kls, strict=True), 1)
        ]

    def _kl(self, selection: float, chosen: ScoredCandidate, rank: int, limit: int, sampling: Sampling) -> KL:
        """Return the KL of the law of the choice from that of the draws. `decoders.maths.logmath` has the claims.

        Order statistics bound argmax and argmin. For the first result they bound any choice among `limit` draws, early
        stopping included; for a further one only a choice among all of them, by an order that they do not set.
        """
        relative = self._compares_candidates and len(chosen.rewards) > 1
        ordered = isinstance(self.select, Argmax | Argmin)
        if not ordered or (rank > 1 and (relative or self.stop_at is not None)):
            return KL(selection, "selection_bound")
        if rank > 1:
            return KL(ranked_kl(limit, rank), "order_statistic_bound")
        logprobs = chosen.candidate.logprobs
        if logprobs is not None and sampling.is_policy_law and self.stop_at is None and self.proposal is None:
            return KL(atomic_kl(limit, math.fsum(t.logprob for t in logprobs)), "atomic")
        return KL(best_of_n_kl(limit), "order_statistic_bound")

    def _vote_share(self, candidates: Sequence[ScoredCandidate], i: int, prompt: Prompt) -> VoteShare | None:
        if not isinstance(self.select, Vote):
            return None
        usable = [(j, c) for j, c in enumerate(candidates) if math.isfinite(c.total)]
        place = [j for j, _ in usable].index(i)
        return self.select.share_of(place, [c.total for _, c in usable], [prompt.reply(c.candidate) for _, c in usable])
