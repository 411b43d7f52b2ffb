"""Speculative rejection [Sun et al. 2024]: best-of-N that gives up early on candidates that begin badly.

y_1 .. y_N empty;   for c in checkpoints, and at last without a checkpoint:
    1. draw each unfinished y_i on to c tokens
    2. keep the fraction `keep` of the unfinished with the greatest r(x, y_i so far)
3. return the finished y_i with the greatest r(x, y_i)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from decoders.core import EMPTY, Prompt, Rng, Sampling
from decoders.errors import NoUsableReward
from decoders.events import KL, Cost, Info, Run, ScoredCandidate, Step
from decoders.maths.logmath import INF
from decoders.models import Models
from decoders.parts.blocks import check_blocks
from decoders.parts.results import Choice, place
from decoders.parts.search_run import SearchRun
from decoders.parts.selection import Argmax
from decoders.search import Search, check_draws_differ


def _rising(checkpoints: list[int]) -> list[int]:
    if any(b <= a for a, b in pairwise([0, *checkpoints])):
        raise ValueError("each checkpoint lies beyond the one before")
    return checkpoints


class SpeculativeRejectionInfo(Info, frozen=True):
    draws: int = Field(description="N.")
    tokens_saved: float = Field(description="An estimate of the tokens that full best-of-N would have drawn besides.")


@dataclass
class _Race:
    """One result's candidates: unfinished, finished, and given up."""

    open: list[ScoredCandidate] = field(default_factory=list)
    finished: list[ScoredCandidate] = field(default_factory=list)
    aborted: list[ScoredCandidate] = field(default_factory=list)

    def take(self, grown: Sequence[ScoredCandidate]) -> None:
        """Replace the unfinished candidates by what they have become."""
        self.open = [s for s in grown if s.candidate.finish is None]
        self.finished += [s for s in grown if s.candidate.finish is not None]

    @property
    def lost(self) -> bool:
        """Whether some candidate had no finite reward: the answer is conditioned on another having one."""
        return any(not math.isfinite(s.total) for s in (*self.finished, *self.aborted))

    @property
    def saved(self) -> float:
        """Tokens that the aborted would have gone on for, had they become as long as the finished are in the mean."""
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
    one; the latter is what is reported, unless a candidate may lack a
    finite reward.
    """

    info: ClassVar[type[Info]] = SpeculativeRejectionInfo

    strategy: Literal["speculative_rejection"] = "speculative_rejection"
    n: int = Field(16, ge=1, le=256, description="N: candidates at the start.")
    checkpoints: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=64), AfterValidator(_rising)
    ] = Field(default_factory=lambda: [16, 32, 64, 128], description="Lengths in tokens at which some are given up.")
    keep: float = Field(0.5, gt=0, le=1, description="The fraction of the unfinished that is continued, rounded up.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(sampling.n * self.n, await self.rollouts_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Return the cost where each stretch between checkpoints has as many candidates as can be left."""
        ends = [*(c for c in self.checkpoints if c < sampling.max_tokens), sampling.max_tokens]
        tokens, left = 0, self.n
        for begin, end in pairwise([0, *ends]):
            tokens += left * (end - begin)
            left = self._kept(left)
        return Cost(sampling.n * self.n, sampling.n * tokens) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        check_draws_differ(sampling, self.n, "candidates")

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        run = await self.begin(prompt, models, sampling, rng)
        races = [_Race() for _ in range(sampling.n)]
        ends = [*self.checkpoints, self.checkpoints[-1] + sampling.max_tokens]
        for begin, end in pairwise([0, *ends]):
            # 1. Draw each unfinished y_i on to the next checkpoint.
            await self._grow(run, races, end - begin)
            # 2. Keep those that are best so far.
            with run.selecting():
                for race in races:
                    self._give_up(race, rng)
            if not any(race.open for race in races):
                break
        # 3. The best of the finished.
        with run.selecting():
            best = [self._best(race, rng) for race in races]
        for index, scored in enumerate(best):
            yield Step(scored.candidate, index)
        candidates = [s for race in races for s in (*race.finished, *race.aborted)]
        run.count_candidates(self.n * sampling.n)  # each was drawn in several stretches, and is one candidate
        yield await run.done(candidates, self._choices(candidates, races, best, models))

    async def _grow(self, run: SearchRun, races: Sequence[_Race], tokens: int) -> None:
        """Draw the unfinished candidates on by at most so many tokens; at the start, N from nothing for each race."""
        if not any(race.open or race.finished for race in races):
            grown = await run.extend([EMPTY] * len(races), [self.n] * len(races), tokens)
        else:
            prefixes = [s.candidate for race in races for s in race.open]
            alone = iter(await run.extend(prefixes, [1] * len(prefixes), tokens))
            grown = [[one for _ in race.open for one in next(alone)] for race in races]
        for race, own in zip(races, grown, strict=True):
            race.take(own)

    def _choices(
        self,
        candidates: Sequence[ScoredCandidate],
        races: Sequence[_Race],
        best: Sequence[ScoredCandidate],
        models: Models,
    ) -> list[Choice]:
        keeps = self.keeps_all(models)
        return [
            Choice(
                place(scored, candidates),
                KL(math.log(self.n), "selection_bound") if keeps and not race.lost else None,
                SpeculativeRejectionInfo(draws=self.n, tokens_saved=race.saved),
            )
            for race, scored in zip(races, best, strict=True)
        ]

    def _kept(self, count: int) -> int:
        return min(count, max(1, math.ceil(self.keep * count - 1e-9)))

    def _give_up(self, race: _Race, rng: Rng) -> None:
        """Keep the best of the unfinished; one without a finite reward is the first to go."""
        left = [replace(s, total=s.total if math.isfinite(s.total) else -INF) for s in race.open]
        race.open = [
            left.pop(rng.draw(Argmax().log_weights([s.total for s in left]))) for _ in range(self._kept(len(left)))
        ]
        race.aborted += [replace(s, aborted=True) for s in left]

    def _best(self, race: _Race, rng: Rng) -> ScoredCandidate:
        usable = [s for s in race.finished if math.isfinite(s.total)]
        if not usable:
            raise NoUsableReward(f"None of {len(race.finished)} finished candidates has a finite reward.")
        return usable[rng.draw(Argmax().log_weights([s.total for s in usable]))]
