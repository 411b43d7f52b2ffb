"""Speculative rejection [Sun et al. 2024]: best-of-N that gives up early on what begins badly.

y_1 .. y_N empty;   for c in checkpoints:
    draw each unfinished y_i on to c tokens;   keep the fraction `keep` of these with the greatest r(x, y_i so far)
draw what is left to its end;   return the finished y_i with the greatest r(x, y_i)
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from decoders.core import EMPTY, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step
from decoders.maths.logmath import INF
from decoders.models import Models
from decoders.parts.blocks import Blocks, check_blocks
from decoders.parts.divergence import distances, divergence, with_logprobs
from decoders.parts.selection import Argmax
from decoders.search import Search


def _rising(checkpoints: list[int]) -> list[int]:
    if any(b <= a for a, b in pairwise([0, *checkpoints])):
        raise ValueError("each checkpoint lies beyond the one before")
    return checkpoints


@dataclass
class _Race:
    """One result's candidates: those that are unfinished, those that are finished, and those given up on."""

    open: list[Scored] = field(default_factory=list)
    finished: list[Scored] = field(default_factory=list)
    aborted: list[Scored] = field(default_factory=list)

    def take(self, grown: Sequence[Scored]) -> None:
        self.open = [s for s in grown if s.candidate.finish is None]
        self.finished += [s for s in grown if s.candidate.finish is not None]

    @property
    def lost(self) -> bool:
        """Whether a candidate was out: the answer is conditioned on another being there."""
        return any(not math.isfinite(s.total) for s in (*self.finished, *self.aborted))

    @property
    def saved(self) -> float:
        """Tokens the aborted would have gone on for, had they been as long as the finished are in the mean."""
        if not self.finished:
            return 0.0
        length = sum(len(s.candidate.tokens) for s in self.finished) / len(self.finished)
        return math.fsum(max(0.0, length - len(s.candidate.tokens)) for s in self.aborted)


class SpeculativeRejection(Search, frozen=True, extra="forbid"):
    """The best of N samples, most of which are not drawn to their end.

    Law: none in closed form. It is best-of-N's P_N where nothing is given up (`keep` of 1, or answers that end before
    the first checkpoint), and otherwise an approximation of it: an answer that begins below the others is lost, however
    it would have ended. Unfinished answers compete with each other only; a tie at the edge is broken evenly. Several
    results are independent runs.

    KL to the policy is at most log N - (N-1)/N for best-of-N and at most log N for any choice among N draws, as this is
    one; the latter is what is reported, unless a candidate can be out.
    """

    strategy: Literal["speculative_rejection"] = "speculative_rejection"
    n: int = Field(16, ge=1, le=256, description="N: candidates at the start.")
    checkpoints: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=64), AfterValidator(_rising)
    ] = Field(default_factory=lambda: [16, 32, 64, 128], description="Lengths in tokens at which some are given up.")
    keep: float = Field(0.5, gt=0, le=1, description="The fraction of the unfinished that goes on, rounded up.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(sampling.n * self.n, await self.references_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Each stretch between checkpoints with as many as can be left."""
        ends = [*(c for c in self.checkpoints if c < sampling.max_tokens), sampling.max_tokens]
        tokens, left = 0, self.n
        for begin, end in pairwise([0, *ends]):
            tokens += left * (end - begin)
            left = self._kept(left)
        return Cost(sampling.n * self.n, sampling.n * tokens) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        if sampling.is_greedy and self.n > 1:
            raise InvalidRequest("At temperature 0 all candidates would be the same: raise it.", "temperature")

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        sampling = self.guided(models, sampling)
        draws = replace(with_logprobs(sampling) if self.return_kl and sampling.guides else sampling, n=1)
        objective = await self.objective(prompt, models, draws, rng.fork())
        blocks = Blocks(prompt, models, objective, draws, rng)
        races = [_Race() for _ in range(sampling.n)]
        stretches = [b - a for a, b in pairwise([0, *self.checkpoints, self.checkpoints[-1] + sampling.max_tokens])]
        selecting = 0.0
        for i, tokens in enumerate(stretches):
            if i == 0:
                grown = await blocks.grow([EMPTY] * len(races), self.n, tokens)
            else:
                going = [s.candidate for race in races for s in race.open]
                alone = iter(await blocks.grow(going, 1, tokens))
                grown = [[one for _ in race.open for one in next(alone)] for race in races]
            started = time.perf_counter()
            for race, own in zip(races, grown, strict=True):
                race.take(own)
                self._give_up(race, rng)
            selecting += time.perf_counter() - started
            if not any(race.open for race in races):
                break
        started = time.perf_counter()
        best = [self._best(race, rng) for race in races]
        for index, scored in enumerate(best):
            yield Step(scored.candidate, index)
        selecting += time.perf_counter() - started
        far, measuring = await distances(models, prompt, [s.candidate for s in best], sampling, asked=self.return_kl)
        choice, keeps = KL(math.log(self.n), "selection_bound"), self.keeps_all(models)
        candidates = [s for race in races for s in (*race.finished, *race.aborted)]
        yield Done(
            tuple(
                Result(
                    scored.candidate,
                    rewards=scored.rewards,
                    calibrated=scored.calibrated,
                    kl=divergence(choice, d, sampling) if keeps and not race.lost else None,
                    policy_logprob=None if d is None else d.policy_logprob,
                    draws=self.n,
                    tokens_saved=race.saved,
                )
                for race, scored, d in zip(races, best, far, strict=True)
            ),
            cost=objective.cost
            + self._counted(blocks.cost, sampling.n)
            + Cost(seconds={"select": selecting})
            + measuring,
            candidates=tuple(candidates),
            chosen=tuple(next(i for i, s in enumerate(candidates) if s is scored) for scored in best),
            rollouts=objective.rollouts,
        )

    def _kept(self, count: int) -> int:
        return min(count, max(1, math.ceil(self.keep * count - 1e-9)))

    def _give_up(self, race: _Race, rng: Rng) -> None:
        """Keep the best of the unfinished; one without a finite reward is the first to go."""
        left = [replace(s, total=s.total if math.isfinite(s.total) else -INF) for s in race.open]
        race.open = [
            left.pop(rng.draw(Argmax().log_weights([s.total for s in left]))) for _ in range(self._kept(len(left)))
        ]
        race.aborted += [replace(s, aborted=True) for s in left]

    def _best(self, race: _Race, rng: Rng) -> Scored:
        usable = [s for s in race.finished if math.isfinite(s.total)]
        if not usable:
            raise NoUsableReward(f"None of {len(race.finished)} finished candidates has a finite reward.")
        return usable[rng.draw(Argmax().log_weights([s.total for s in usable]))]

    def _counted(self, cost: Cost, results: int) -> Cost:
        """A candidate that was drawn in several stretches is one candidate."""
        return replace(cost, candidates=self.n * results)
