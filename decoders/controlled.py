"""Blockwise controlled decoding [Mudgal et al. 2023, "Controlled Decoding from Language Models"].

repeat until y ends:
    1. from y draw K blocks z_1 .. z_K of at most M tokens, z_k ~ pi(. | x, y)
    2. y <- y z_k  with  k ~ select(V(x, y z_1) .. V(x, y z_K))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from decoders.core import EMPTY, Candidate, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Info, Run, ScoredCandidate, Step
from decoders.maths.logmath import best_of_n_kl, normalise, selection_kl
from decoders.models import Models
from decoders.parts.blocks import FinalText, block_bound, check_blocks
from decoders.parts.results import Choice, place
from decoders.parts.selection import Argmax, Softmax
from decoders.search import Search, check_draws_differ

BlockStop = Annotated[str, Field(min_length=1, max_length=64)]


class ControlledInfo(Info, frozen=True):
    rounds: int = Field(description="Steps at which blocks were drawn and one was chosen.")


@dataclass
class _Growth:
    """One result on its way: its beams, and the KL of the choices so far, in nats.

    `lost` says that some block had no finite reward, so that the choices are conditioned on others having one.
    """

    sent: FinalText
    beams: list[ScoredCandidate] = field(default_factory=lambda: [ScoredCandidate(EMPTY)])
    kl: float = 0.0
    lost: bool = False
    rounds: int = 0

    @property
    def open(self) -> list[Candidate]:
        """The answers that can be continued."""
        return [beam.candidate for beam in self.beams if beam.candidate.finish is None]

    @property
    def finished(self) -> list[ScoredCandidate]:
        """The beams whose answer has ended."""
        return [beam for beam in self.beams if beam.candidate.finish is not None]


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
    a block may lack a finite reward.
    """

    info: ClassVar[type[Info]] = ControlledInfo

    strategy: Literal["controlled"] = "controlled"
    candidates: int = Field(4, ge=1, le=256, description="K: blocks to choose from at each step.")
    block_tokens: int = Field(16, ge=1, description="M: tokens of a block, at most.")
    block_stop: Annotated[list[BlockStop], Field(max_length=8)] = Field(
        default_factory=list, description="Strings that end a block, such as a blank line between steps of reasoning."
    )
    beams: int = Field(1, ge=1, le=64, description="B: unfinished answers that are kept.")
    select: Annotated[Argmax | Softmax, Field(discriminator="by")] = Field(default_factory=Argmax)

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(sampling.n * self.beams * self.candidates, await self.rollouts_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Return the cost of full blocks throughout.

        All blocks are full but the last, so an answer has as many as fit. With `block_stop` a block may be as short as
        one token: each step then draws full blocks, and may keep one token of them.
        """
        shortest = 1 if self.block_stop else self.block_tokens
        steps, drawn = block_bound(sampling.max_tokens, shortest, self.block_tokens)
        width = sampling.n * self.beams * self.candidates
        return Cost(width * steps, width * drawn) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        check_draws_differ(sampling, self.candidates, "blocks")
        if self.beams > self.candidates:
            raise InvalidRequest(
                f"{self.beams} beams cannot come from {self.candidates} first blocks: raise candidates.",
                "strategy.beams",
            )

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        run = await self.begin(prompt, models, sampling, rng)
        answers = [_Growth(FinalText(sampling.stop)) for _ in range(sampling.n)]
        while any(answer.open for answer in answers):
            # 1. From each unfinished y draw K blocks.
            prefixes = [y for answer in answers for y in answer.open]
            counts = [self.candidates] * len(prefixes)
            blocks = iter(await run.extend(prefixes, counts, self.block_tokens, stop_block=self.block_stop))
            # 2. y <- y z_k; with beams, finished ones compete with the extensions of the others.
            for index, answer in enumerate(answers):
                if answer.open:
                    with run.selecting():
                        self._advance(answer, [*answer.finished, *(z for _ in answer.open for z in next(blocks))], rng)
                    if self.beams == 1:
                        yield Step(answer.sent.take(answer.beams[0].candidate), index)
        candidates = [beam for answer in answers for beam in answer.beams]
        best = [self._best(answer.beams, rng) for answer in answers]
        if self.beams > 1:
            for index, scored in enumerate(best):
                yield Step(scored.candidate, index)
        choices = [
            Choice(place(scored, candidates), self._kl(answer, models), ControlledInfo(rounds=answer.rounds))
            for answer, scored in zip(answers, best, strict=True)
        ]
        yield await run.done(candidates, choices)

    def _advance(self, answer: _Growth, pool: Sequence[ScoredCandidate], rng: Rng) -> None:
        left = [scored for scored in pool if math.isfinite(scored.total)]
        if not left:
            raise NoUsableReward(f"None of {len(pool)} blocks has a finite reward.")
        answer.rounds += 1
        answer.lost = answer.lost or len(left) < len(pool)
        if self.beams == 1:
            answer.kl += self._choice_kl([s.total for s in left])
        answer.beams = self._choose(left, self.beams, rng)

    def _best(self, beams: Sequence[ScoredCandidate], rng: Rng) -> ScoredCandidate:
        return self._choose(beams, 1, rng)[0] if len(beams) > 1 else beams[0]

    def _choose(self, left: Sequence[ScoredCandidate], count: int, rng: Rng) -> list[ScoredCandidate]:
        """Return `count` of them, or all, each chosen by the same rule from those that are left."""
        left = list(left)
        chosen: list[ScoredCandidate] = []
        while left and len(chosen) < count:
            chosen.append(left.pop(rng.draw(self.select.log_weights([s.total for s in left]))))
        return chosen

    def _choice_kl(self, totals: Sequence[float]) -> float:
        """Return a bound, in nats, on the divergence of one choice among K blocks from a block of the policy."""
        if isinstance(self.select, Argmax):
            return best_of_n_kl(self.candidates)
        return selection_kl(normalise(self.select.log_weights(totals)), self.candidates)

    def _kl(self, answer: _Growth, models: Models) -> KL | None:
        if self.beams > 1 or answer.lost or not self.keeps_all(models):
            return None
        return KL(answer.kl, "block_bound" if isinstance(self.select, Argmax) else "selection_bound")
