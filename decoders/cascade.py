"""Cascade reward sampling [Li et al. 2024, CARDS]: rejection sampling of segments.

from y_<=t draw a segment z ~ pi(. | x, y_<=t) that ends before a token whose law has entropy >= entropy_threshold
y <- y_<=t z  with probability  min(1, exp((V(x, y_<=t z) - tau(|y_<=t z|)) / beta)),  else draw another;  until y ends
tau(l) = accept_from + (accept_threshold - accept_from) min(1, l / max_tokens)
"""

import math
import time
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from decoders.core import EMPTY, Candidate, EntropyStop, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import Cost, Done, Result, Run, Scored, Step
from decoders.maths.logmath import INF
from decoders.models import Models
from decoders.parts.blocks import Blocks, Tail, block_bound, check_blocks
from decoders.parts.concurrency import together
from decoders.parts.divergence import distances
from decoders.parts.objective import Objective
from decoders.parts.selection import Argmax, Beta
from decoders.search import Search

Threshold = Annotated[float, Field(allow_inf_nan=False)]


@dataclass
class _Climb:
    """One result on its way, with the tries at its next segment that were refused."""

    tail: Tail
    at: Scored
    start: float
    refused: list[Scored] = field(default_factory=list)
    rounds: int = 0

    @property
    def open(self) -> bool:
        return self.at.candidate.finish is None


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

    strategy: Literal["cascade"] = "cascade"
    entropy_threshold: float = Field(
        3.0, ge=0, le=100, description="Nats; a segment ends before a token this uncertain."
    )
    accept_threshold: Threshold = Field(description="The reward that a whole answer should have.")
    accept_from: Threshold | None = Field(
        None, description="The threshold at the start; by default half way from the empty answer's reward."
    )
    beta: Beta = 0.7
    max_tries: int = Field(20, ge=1, le=1024, description="Tries at one segment.")
    batch: int = Field(4, ge=1, le=64, description="Tries that are drawn at the same time.")
    segment_tokens: int = Field(64, ge=1, description="Tokens of a segment, at most.")
    segment_least: int = Field(4, ge=1, description="Tokens of a segment, at least.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(
            sampling.n * min(self.batch, self.max_tries), await self.references_at_once(prompt, models, sampling)
        )

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Every segment that is accepted as short as can be, and every try before it as long as can be."""
        least = min(self.segment_least, self.segment_tokens)
        segments, drawn = block_bound(sampling.max_tokens, least, self.segment_tokens)
        width = sampling.n * self.max_tries
        return Cost(width * segments, width * drawn) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        models.policy.check_entropy_stop(sampling)
        if sampling.is_greedy and self.max_tries > 1:
            raise InvalidRequest("At temperature 0 all tries would be the same: raise it.", "temperature")
        if self.accept_from is not None and self.accept_from > self.accept_threshold:
            raise InvalidRequest("The threshold rises: accept_from is its least.", "decoding.accept_from")

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        sampling = self.guided(models, sampling)
        draws = replace(sampling, n=1)
        objective = await self.objective(prompt, models, draws, rng.fork())
        starting = time.perf_counter()
        start, passes = await self._start(prompt, models, objective)
        started = Cost(scored_tokens=passes, seconds={"score": time.perf_counter() - starting})
        blocks = Blocks(prompt, models, objective, draws, rng)
        climbs = [_Climb(Tail(draws), Scored(EMPTY, {}, math.nan), start) for _ in range(sampling.n)]
        entropy_stop = EntropyStop(self.entropy_threshold, self.segment_least)
        selecting = 0.0
        while going := [(i, climb) for i, climb in enumerate(climbs) if climb.open]:
            counts = [min(self.batch, self.max_tries - len(climb.refused)) for _, climb in going]
            grown = await blocks.grow(
                [climb.at.candidate for _, climb in going], counts, self.segment_tokens, entropy_stop=entropy_stop
            )
            choosing = time.perf_counter()
            for (index, climb), tries in zip(going, grown, strict=True):
                taken = self._try(climb, tries, sampling, rng)
                if taken is not None:
                    climb.at, climb.refused, climb.rounds = taken, [], climb.rounds + 1
                    yield Step(climb.tail.piece(taken.candidate), index)
            selecting += time.perf_counter() - choosing
        answers = [climb.at for climb in climbs]
        far, measuring = await distances(models, prompt, [s.candidate for s in answers], sampling, asked=self.return_kl)
        yield Done(
            tuple(
                Result(
                    climb.at.candidate,
                    rewards=climb.at.rewards,
                    calibrated=climb.at.calibrated,
                    policy_logprob=None if d is None else d.policy_logprob,
                    rounds=climb.rounds,
                )
                for climb, d in zip(climbs, far, strict=True)
            ),
            cost=objective.cost + started + blocks.cost + Cost(seconds={"select": selecting}) + measuring,
            candidates=tuple(answers),
            chosen=tuple(range(len(answers))),
            rollouts=objective.rollouts,
        )

    async def _start(self, prompt: Prompt, models: Models, objective: Objective) -> tuple[float, int]:
        """Where the threshold begins, and the tokens that were read to know it."""
        if self.accept_from is not None:
            return self.accept_from, 0
        empty = Candidate((), "", "length")
        scores = await together(models.rewards[name].score(prompt, [empty]) for name in objective.names)
        of_nothing = objective.scored(
            empty, {name: s[0] for name, s in zip(objective.names, scores, strict=True)}
        ).total
        if not math.isfinite(of_nothing):
            raise NoUsableReward(
                "The empty answer has no finite reward: say where the threshold begins, in accept_from."
            )
        return min(self.accept_threshold, (of_nothing + self.accept_threshold) / 2), len(prompt.tokens) * len(scores)

    def _try(self, climb: _Climb, tries: list[Scored], sampling: Sampling, rng: Rng) -> Scored | None:
        """The first of `tries` that is accepted, or after the last the best of all; None if more are to be drawn."""
        for scored in tries:
            climb.refused.append(scored)
            if self._accepts(scored, climb.start, sampling, rng):
                return scored
        if len(climb.refused) < self.max_tries:
            return None
        usable = [s for s in climb.refused if math.isfinite(s.total)]
        if not usable:
            raise NoUsableReward(f"None of {self.max_tries} segments has a finite reward.")
        return usable[rng.draw(Argmax().log_weights([s.total for s in usable]))]

    def _accepts(self, scored: Scored, start: float, sampling: Sampling, rng: Rng) -> bool:
        if not math.isfinite(scored.total):
            return False
        share = min(1.0, len(scored.candidate.tokens) / sampling.max_tokens)
        threshold = start + (self.accept_threshold - start) * share
        log_p = min(0.0, (scored.total - threshold) / self.beta)
        return rng.draw([log_p, math.log(-math.expm1(log_p)) if log_p < 0 else -INF]) == 0
