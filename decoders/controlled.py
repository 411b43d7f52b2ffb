"""Blockwise controlled decoding [Mudgal et al. 2023, "Controlled Decoding from Language Models"].

from y_<=t draw K blocks z_1 .. z_K of at most M tokens, z_k ~ pi(. | x, y_<=t)
y <- y_<=t z_k  with  k ~ select(V(x, y_<=t z_1) .. V(x, y_<=t z_K));  repeat until y ends
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from decoders.core import EMPTY, Candidate, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step
from decoders.maths.logmath import best_of_n_kl, normalise, selection_kl
from decoders.models import Models
from decoders.parts.blocks import Blocks, Tail, block_bound, check_blocks
from decoders.parts.divergence import Distance, distances, divergence, with_logprobs
from decoders.parts.selection import Argmax, Softmax
from decoders.search import Search

BlockStop = Annotated[str, Field(min_length=1, max_length=64)]


@dataclass
class _Growth:
    """One result on its way: its beams, and how far the choices so far are from the policy, in nats."""

    tail: Tail
    beams: list[Scored] = field(default_factory=lambda: [Scored(EMPTY, {}, math.nan)])
    kl: float = 0.0
    lost: bool = False
    """Whether a block was out, so that the choices so far are conditioned on others being there."""
    rounds: int = 0

    @property
    def open(self) -> list[Candidate]:
        return [beam.candidate for beam in self.beams if beam.candidate.finish is None]


class Controlled(Search, frozen=True, extra="forbid"):
    """The best block of K, again and again.

    Law: with F_M(z | y) the law of one block under pi, each step's block is drawn from the order-statistic law of the
    best of K blocks by V (argmax), or from K blocks with weights exp(V/beta) (softmax). It is not pi exp(r/beta)/Z:
    a choice is never taken back, and V sees only what is there. With M = max_tokens it is best-of-K; with M = 1, K
    sampled tokens compete at each step. V is the request's reward on the unfinished answer: a value only if the reward
    is one (a prefix scorer, a process reward); an outcome reward on a prefix is a guess at it. `calibrated` takes its
    quantile among whole samples' rewards instead.

    KL to the policy for one beam and argmax is at most (log K - (K-1)/K) per block. With B beams, the B best of their
    B K extensions go on, a finished beam competing as it is: no bound is known, and none is reported. Nor is one where
    a block can be out.
    """

    strategy: Literal["controlled"] = "controlled"
    candidates: int = Field(4, ge=1, le=256, description="K: blocks to choose from at each step.")
    block_tokens: int = Field(16, ge=1, description="M: tokens of a block, at most.")
    block_stop: Annotated[list[BlockStop], Field(max_length=8)] = Field(
        default_factory=list, description="Strings that end a block, such as a blank line between steps of reasoning."
    )
    beams: int = Field(1, ge=1, le=64, description="B: unfinished answers that are kept.")
    select: Annotated[Argmax | Softmax, Field(discriminator="by")] = Field(default_factory=Argmax)

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(sampling.n * self.beams * self.candidates, await self.references_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Blocks are full but for the last, so an answer has as many as fit. With `block_stop` one may be as short as
        a token: each step then draws full blocks, and may keep a token of them."""
        steps, drawn = block_bound(sampling.max_tokens, 1 if self.block_stop else self.block_tokens, self.block_tokens)
        width = sampling.n * self.beams * self.candidates
        return Cost(width * steps, width * drawn) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        if sampling.is_greedy and self.candidates > 1:
            raise InvalidRequest("At temperature 0 all blocks would be the same: raise it.", "temperature")
        if self.beams > self.candidates:
            raise InvalidRequest(
                f"{self.beams} beams can not come from {self.candidates} first blocks: raise decoding.candidates.",
                "decoding.beams",
            )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        sampling = self.guided(models, sampling)
        draws = replace(with_logprobs(sampling) if self.return_kl and sampling.guides else sampling, n=1)
        objective = await self.objective(prompt, models, draws, rng.fork())
        blocks = Blocks(prompt, models, objective, draws, rng)
        answers = [_Growth(Tail(draws)) for _ in range(sampling.n)]
        selecting = 0.0
        while any(answer.open for answer in answers):
            prefix = [candidate for answer in answers for candidate in answer.open]
            grown = iter(await blocks.grow(prefix, self.candidates, self.block_tokens, self.block_stop))
            started = time.perf_counter()
            for index, answer in enumerate(answers):
                if not answer.open:
                    continue
                finished = [beam for beam in answer.beams if beam.candidate.finish is not None]
                pool = [*finished, *(scored for _ in answer.open for scored in next(grown))]
                self._advance(answer, pool, rng)
                if self.beams == 1:
                    yield Step(answer.tail.piece(answer.beams[0].candidate), index)
            selecting += time.perf_counter() - started
        best = [self._final(answer, rng) for answer in answers]
        if self.beams > 1:
            for index, scored in enumerate(best):
                yield Step(scored.candidate, index)
        far, measuring = await distances(
            models, prompt, [scored.candidate for scored in best], sampling, asked=self.return_kl
        )
        beams = [beam for answer in answers for beam in answer.beams]
        yield Done(
            tuple(
                Result(
                    scored.candidate,
                    rewards=scored.rewards,
                    calibrated=scored.calibrated,
                    kl=self._kl(answer, d, sampling, models),
                    policy_logprob=None if d is None else d.policy_logprob,
                    rounds=answer.rounds,
                )
                for answer, scored, d in zip(answers, best, far, strict=True)
            ),
            cost=objective.cost + blocks.cost + Cost(seconds={"select": selecting}) + measuring,
            candidates=tuple(beams),
            chosen=tuple(next(i for i, beam in enumerate(beams) if beam is scored) for scored in best),
            rollouts=objective.rollouts,
        )

    def _advance(self, answer: _Growth, pool: list[Scored], rng: Rng) -> None:
        """Choose what goes on."""
        answer.rounds += 1
        left = [scored for scored in pool if math.isfinite(scored.total)]
        answer.lost = answer.lost or len(left) < len(pool)
        if not left:
            raise NoUsableReward(f"None of {len(pool)} blocks has a finite reward.")
        if self.beams == 1:
            log_weights = self.select.log_weights([s.total for s in left])
            answer.kl += (
                best_of_n_kl(self.candidates)
                if isinstance(self.select, Argmax)
                else selection_kl(normalise(log_weights), self.candidates)
            )
        answer.beams = self._choose(left, self.beams, rng)

    def _choose(self, left: Sequence[Scored], count: int, rng: Rng) -> list[Scored]:
        """`count` of them, or all, each by the same rule from those that are left."""
        left = list(left)
        chosen: list[Scored] = []
        while left and len(chosen) < count:
            chosen.append(left.pop(rng.draw(self.select.log_weights([s.total for s in left]))))
        return chosen

    def _final(self, answer: _Growth, rng: Rng) -> Scored:
        return self._choose(answer.beams, 1, rng)[0] if len(answer.beams) > 1 else answer.beams[0]

    def _kl(self, answer: _Growth, distance: Distance | None, sampling: Sampling, models: Models) -> KL | None:
        if self.beams > 1 or answer.lost or not self.keeps_all(models):
            return None
        kl = KL(answer.kl, "block_bound" if isinstance(self.select, Argmax) else "selection_bound")
        return divergence(kl, distance, sampling)
