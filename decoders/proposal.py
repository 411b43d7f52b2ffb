"""Best-of-N over another strategy's answers.

    y_1 .. y_N ~ p(. | x), p the law of `proposal`;   r_i = r(x, y_i);   return y_i with i ~ select(r_1 .. r_N)

With `rejection` over a calibrated, transformed reward for p, this is InfAlign's inference-aware policy [Balashankar et
al. 2024] without its training: tilt by Phi(C)/beta, then best-of-N.
"""

import time
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from decoders.base import Decoder
from decoders.best_of_n import FlatBestOfN
from decoders.cascade import Cascade
from decoders.controlled import Controlled
from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import KL, Cost, Done, Result, Run
from decoders.models import Models
from decoders.particles import Particles
from decoders.parts.concurrency import together
from decoders.parts.divergence import Distance
from decoders.parts.scored_candidates import ScoredCandidates
from decoders.rejection import Rejection
from decoders.reward_guided import RewardGuided
from decoders.sample import Sample
from decoders.speculative_rejection import SpeculativeRejection

Proposal = Annotated[
    Sample | RewardGuided | FlatBestOfN | Controlled | Rejection | Particles | SpeculativeRejection | Cascade,
    Field(discriminator="strategy"),
]
OUTER = ("return_candidates", "return_kl", "budget")  # said once, of the whole request
_PLAIN = Sample()


class BestOfN(FlatBestOfN, frozen=True, extra="forbid"):
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

    A candidate whose reward is not finite is out, and where that can be no KL is reported: the answer is conditioned on
    others being there. With n results, each further one is chosen by the same rule from the candidates that are left.
    """

    proposal: Proposal | None = Field(None, description="The strategy whose answers it chooses among.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        if self.proposal is None:
            return await super().max_sequences(prompt, models, sampling)
        runs, each = _runs(self.proposal, self._batch)
        inner = await self.proposal.max_sequences(prompt, models, replace(sampling, n=each))
        return runs * inner + await self.references_at_once(prompt, models, sampling)

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        if self.proposal is None:
            return super().max_cost(sampling, models)
        most = self.max_rollout_cost(sampling, models)
        for begin in range(0, self._limit, self._batch):
            runs, each = _runs(self.proposal, min(self._batch, self._limit - begin))
            most = sum([self.proposal.max_cost(replace(sampling, n=each), models)] * runs, most)
        return most

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        if self.proposal is None:
            return
        if self.guides:
            raise InvalidRequest("The proposal draws the candidates: name its guides there.", "decoding.guides")
        for name in OUTER:
            if getattr(self.proposal, name) != getattr(_PLAIN, name):
                raise InvalidRequest(
                    "Say this of the whole request, outside the proposal.", f"decoding.proposal.{name}"
                )
        try:
            _, each = _runs(self.proposal, self._batch)
            self.proposal.check(models, replace(sampling, n=each))
        except InvalidRequest as error:
            raise _inside(error) from error

    @property
    def _draws_are_the_policys(self) -> bool:
        return self.proposal is None

    async def _draw(
        self, pool: ScoredCandidates, n: int, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng
    ) -> list[Result]:
        if self.proposal is None:
            return await super()._draw(pool, n, prompt, models, sampling, rng)
        strategy = self.proposal.model_copy(update={"return_kl": self.return_kl})
        try:
            results, cost = await _propose(strategy, n, prompt, models, sampling, rng)
        except InvalidRequest as error:
            raise _inside(error) from error
        pool.cost += cost
        await pool.add(prompt, [r.candidate for r in results], [r.rewards for r in results], models)
        return results

    def _kl(self, choice: KL, drawn: Result, distance: Distance | None, sampling: Sampling) -> KL | None:
        """Through the proposal's law, by the chain rule: the choice's from it, and its own from the frozen policy."""
        if self.proposal is None:
            return super()._kl(choice, drawn, distance, sampling)
        if drawn.kl is None or not drawn.kl.pointwise:
            return None
        nats, estimator = choice.nats + drawn.kl.nats, f"{choice.estimator}+{drawn.kl.estimator}"
        return KL(nats, estimator, reference=drawn.kl.reference)


def _runs(strategy: Decoder, n: int) -> tuple[int, int]:
    """How many runs, of how many results each, give `n` independent answers."""
    return (1, n) if strategy.independent else (n, 1)


async def _propose(
    strategy: Decoder, n: int, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng
) -> tuple[list[Result], Cost]:
    """`n` answers of the strategy's law, each for itself."""
    started = time.perf_counter()
    runs, each = _runs(strategy, n)
    asked = replace(sampling, n=each, stream=False)
    done = await together(_done(strategy.decode(prompt, models, asked, rng.fork())) for _ in range(runs))
    results = [result for one in done for result in one.results]
    if runs == 1:
        return results, done[0].cost
    return results, Cost.at_once([one.cost for one in done], time.perf_counter() - started)


async def _done(run: Run) -> Done:
    """The end of a run."""
    async with aclosing(run) as events:
        async for event in events:
            if isinstance(event, Done):
                return event
    raise AssertionError("a run ends with Done")


def _inside(error: InvalidRequest) -> InvalidRequest:
    """The same of the proposal's fields; the number of its results is the outer number of candidates."""
    field = "decoding.n" if error.field == "n" else error.field
    if error.field is not None and error.field.startswith("decoding."):
        field = "decoding.proposal." + error.field.removeprefix("decoding.")
    return InvalidRequest(str(error), field)
