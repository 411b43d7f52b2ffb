"""Cascade reward sampling [Li et al. 2024, CARDS]: rejection sampling of segments.

repeat until y ends:
    1. from y draw a segment z ~ pi(. | x, y) that ends before a token whose law has entropy >= entropy_threshold
    2. y <- y z with probability min(1, exp((V(x, y z) - tau(|y z|)) / beta)), else draw another

tau(l) = accept_start + (accept_threshold - accept_start) min(1, l / max_tokens)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from decoders.core import EMPTY, Candidate, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import Cost, Info, Run, ScoredCandidate, Step
from decoders.models import Models
from decoders.parts.blocks import FinalText, block_bound, check_blocks
from decoders.parts.results import Choice
from decoders.parts.scoring import score
from decoders.parts.search_run import SearchRun
from decoders.parts.selection import Argmax, Beta, coin
from decoders.policy import EntropyStop
from decoders.search import Search, check_draws_differ

Threshold = Annotated[float, Field(allow_inf_nan=False)]


class CascadeInfo(Info, frozen=True):
    rounds: int = Field(description="Segments of the answer.")


@dataclass
class _AcceptedSegments:
    """One result on its way, with the tries at its next segment that were refused."""

    sent: FinalText
    accepted: ScoredCandidate = field(default_factory=lambda: ScoredCandidate(EMPTY))
    refused: list[ScoredCandidate] = field(default_factory=list)
    rounds: int = 0

    @property
    def open(self) -> bool:
        return self.accepted.candidate.finish is None

    def accept(self, scored: ScoredCandidate) -> Candidate:
        """Go on from this segment. Return what has become final by it."""
        self.accepted, self.refused, self.rounds = scored, [], self.rounds + 1
        return self.sent.take(scored.candidate)


class Cascade(Search, frozen=True, extra="forbid"):
    """Segments that are accepted one after the other, against a threshold that rises.

    Law: with F(z | y) the law of a segment under pi, and a(y z) the probability above, a segment is drawn with
    probability proportional to F(z | y) a(y z): rejection sampling, exact for each segment, as long as `max_tries` are
    enough; after that many the best-rewarded try is taken, which breaks it. The product is not pi exp(r/beta)/Z, since
    every segment is normalised alone; where all segments are accepted, it is pi. V is the reward of an unfinished
    answer, as in `controlled`. The entropy is that of the whole next-token law, guides included; temperature,
    truncation and biases do not count.

    No bound on its KL is known, and none is reported.
    """

    info: ClassVar[type[Info]] = CascadeInfo

    strategy: Literal["cascade"] = "cascade"
    entropy_threshold: float = Field(
        3.0, ge=0, le=100, description="Nats; a segment ends before a token this uncertain."
    )
    accept_threshold: Threshold = Field(description="The reward that a whole answer should have.")
    accept_start: Threshold | None = Field(
        None, description="The threshold at the start; by default half way from the empty answer's reward."
    )
    beta: Beta = 0.7
    max_tries: int = Field(20, ge=1, le=1024, description="Tries at one segment.")
    batch: int = Field(4, ge=1, le=64, description="Tries that are drawn at the same time.")
    min_segment_tokens: int = Field(4, ge=1, description="Tokens of a segment, at least.")
    max_segment_tokens: int = Field(64, ge=1, description="Tokens of a segment, at most.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        width = sampling.n * min(self.batch, self.max_tries)
        return max(width, await self.rollouts_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Return the cost where each accepted segment is as short as can be, and each try before it as long."""
        shortest = min(self.min_segment_tokens, self.max_segment_tokens)
        segments, drawn = block_bound(sampling.max_tokens, shortest, self.max_segment_tokens)
        width = sampling.n * self.max_tries
        return Cost(width * segments, width * drawn) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        models.policy.check_entropy_stop(sampling)
        check_draws_differ(sampling, self.max_tries, "tries")
        if self.accept_start is not None and self.accept_start > self.accept_threshold:
            raise InvalidRequest("The threshold rises: accept_start is its least.", "strategy.accept_start")

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        run = await self.begin(prompt, models, sampling, rng)
        start = await self._start(run)
        answers = [_AcceptedSegments(FinalText(sampling.stop)) for _ in range(sampling.n)]
        stop = EntropyStop(self.entropy_threshold, self.min_segment_tokens)
        while going := [(i, answer) for i, answer in enumerate(answers) if answer.open]:
            # 1. z ~ pi up to an uncertain token, several tries at a time.
            prefixes = [answer.accepted.candidate for _, answer in going]
            counts = [min(self.batch, self.max_tries - len(answer.refused)) for _, answer in going]
            grown = await run.extend(prefixes, counts, self.max_segment_tokens, entropy_stop=stop)
            # 2. y <- y z with the first try that is accepted.
            for (index, answer), tries in zip(going, grown, strict=True):
                with run.selecting():
                    taken = self._first_accepted(answer, tries, start, sampling.max_tokens, rng)
                if taken is not None:
                    yield Step(answer.accept(taken), index)
        choices = [Choice(i, info=CascadeInfo(rounds=answer.rounds)) for i, answer in enumerate(answers)]
        yield await run.done([answer.accepted for answer in answers], choices)

    async def _start(self, run: SearchRun) -> float:
        """Return where the threshold begins. Raise `NoUsableReward` where the empty answer has no finite reward."""
        if self.accept_start is not None:
            return self.accept_start
        empty = Candidate((), "", "length")
        [rewards], cost = await score(run.prompt, [empty], {name: run.models.rewards[name] for name in run.names})
        run.add(cost)
        [judged] = run.objective.judge([ScoredCandidate(empty, rewards)])
        if not math.isfinite(judged.total):
            raise NoUsableReward(
                "The empty answer has no finite reward: say where the threshold begins, in accept_start."
            )
        return min(self.accept_threshold, (judged.total + self.accept_threshold) / 2)

    def _first_accepted(
        self, answer: _AcceptedSegments, tries: Sequence[ScoredCandidate], start: float, max_tokens: int, rng: Rng
    ) -> ScoredCandidate | None:
        """Return the first try that is accepted, or the best of `max_tries`; None if more are to be drawn."""
        for scored in tries:
            answer.refused.append(scored)
            if self._accepts(scored, start, max_tokens, rng):
                return scored
        if len(answer.refused) < self.max_tries:
            return None
        usable = [s for s in answer.refused if math.isfinite(s.total)]
        if not usable:
            raise NoUsableReward(f"None of {self.max_tries} segments has a finite reward.")
        return usable[rng.draw(Argmax().log_weights([s.total for s in usable]))]

    def _accepts(self, scored: ScoredCandidate, start: float, max_tokens: int, rng: Rng) -> bool:
        if not math.isfinite(scored.total):
            return False
        share = min(1.0, len(scored.candidate.tokens) / max_tokens)
        threshold = start + (self.accept_threshold - start) * share
        return coin(min(0.0, (scored.total - threshold) / self.beta), rng)
