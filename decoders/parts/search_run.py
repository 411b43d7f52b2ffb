"""One run of a strategy that chooses by reward: what every such strategy does around its own steps."""

import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.events import Cost, Done, ScoredCandidate
from decoders.models import Models
from decoders.parts.concurrency import both
from decoders.parts.objective import Objective
from decoders.parts.results import Choice, results
from decoders.parts.scored_candidates import ScoredCandidates
from decoders.policy import EntropyStop

T = TypeVar("T")


@dataclass
class SearchRun:
    """Draws candidates for one prompt, judges them by the objective, times the choosing, and makes the report.

    `sampling` is of the policy as the request guides it; `draws` is the same for the drawing of one candidate. The
    objective is set before candidates are judged.
    """

    prompt: Prompt
    models: Models
    sampling: Sampling
    draws: Sampling
    rng: Rng
    names: Sequence[str]
    measure: bool
    objective: Objective = field(init=False)

    def __post_init__(self) -> None:
        self._drawing = ScoredCandidates(self.prompt, self.models, self.names, self.draws, self.rng)
        self._spent = Cost()  # on anything but drawing candidates and choosing among them
        self._selecting = 0.0

    async def set_objective(self, objective: Coroutine[Any, Any, Objective]) -> None:
        """Wait for the objective, and count its rollouts."""
        self.objective = await objective
        self.add(self.objective.cost)

    async def set_objective_during(
        self, objective: Coroutine[Any, Any, Objective], drawing: Coroutine[Any, Any, T]
    ) -> T:
        """Wait for the objective and, at the same time, for first candidates; return these."""
        started = time.perf_counter()
        self.objective, drawn = await both(objective, drawing)
        wall = time.perf_counter() - started
        self._spent = Cost.concurrent((self.objective.cost, self._spent, self._drawing.cost), wall)
        self._drawing.cost = Cost()
        return drawn

    async def draw(self, n: int) -> list[ScoredCandidate]:
        """Return `n` completions with their rewards, not judged yet."""
        return await self._drawing.draw(n)

    async def extend(
        self,
        prefixes: Sequence[Candidate],
        counts: Sequence[int],
        tokens: int,
        *,
        stop_block: Sequence[str] = (),
        entropy_stop: EntropyStop | None = None,
    ) -> list[list[ScoredCandidate]]:
        """Return continuations of each prefix, judged as they stand; see `ScoredCandidates.extend`."""
        grown = await self._drawing.extend(prefixes, counts, tokens, stop_block=stop_block, entropy_stop=entropy_stop)
        return [self.objective.judge(own) for own in grown]

    def add(self, cost: Cost) -> None:
        """Count what was spent elsewhere for this run."""
        self._spent += cost

    def count_candidates(self, number: int) -> None:
        """Set the number of candidates, where the policy drew each in several calls."""
        self._drawing.cost = replace(self._drawing.cost, candidates=number)

    @contextmanager
    def selecting(self) -> Iterator[None]:
        """Count the time inside as choosing."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._selecting += time.perf_counter() - started

    async def done(
        self,
        candidates: Sequence[ScoredCandidate],
        choices: Sequence[Choice],
        *,
        mean_rewards: Mapping[str, float] | None = None,
    ) -> Done:
        """Return the end of the run: a result for each choice among the candidates, and the whole cost."""
        made, measuring = await results(
            self.prompt,
            self.models,
            self.sampling,
            candidates,
            choices,
            measure=self.measure,
            mean_rewards=mean_rewards,
        )
        return Done(
            made,
            cost=self._spent + self._drawing.cost + Cost(seconds={"select": self._selecting}) + measuring,
            candidates=tuple(candidates),
            chosen=tuple(choice.index for choice in choices),
            rollouts=self.objective.rollouts,
        )
