"""The exact law of a strategy, by running it along every path of its random choices.

A strategy takes all its randomness from an `Rng`. `EnumeratingRng` leaves nothing to chance: it follows a given path of
choices, then takes the first open branch each time, and notes the branches that it passed by. Running the strategy once
for each of these visits every outcome, with its probability.
"""

import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from decoders.base import Decoder
from decoders.core import Prompt, Rng, Sampling, Tokens
from decoders.errors import DecantError
from decoders.events import Done, Event
from decoders.models import Models

K = TypeVar("K", bound=Hashable)
Path = tuple[int, ...]
BoundRun = Callable[[Rng], AsyncGenerator[Event]]
"""A strategy with all its arguments but the randomness."""
Outcome = Done | DecantError

PROMPT = Prompt((), "")
ONE = Sampling()


@dataclass
class EnumeratingRng:
    """An `Rng` that follows `path`, then the first branch of positive probability at each choice.

    Attributes:
        path: The choices to make first, each an index into the weights of a draw.
        given: How many of the first choices count as certain.
        probability: The probability of the choices made, the `given` ones left out.
        taken: The choices made.
        passed_by: The paths to the branches that were open and not taken.
    """

    path: Path = ()
    given: int = 0
    probability: float = 1.0
    taken: Path = ()
    passed_by: list[Path] = field(default_factory=list)

    def draw(self, log_weights: Sequence[float]) -> int:
        top = max(log_weights)
        weights = [math.exp(w - top) for w in log_weights]
        depth = len(self.taken)
        if depth < len(self.path):
            choice = self.path[depth]
        else:
            choice, *others = [i for i, w in enumerate(weights) if w > 0]
            self.passed_by += [(*self.taken, i) for i in others]
        if depth >= self.given:
            self.probability *= weights[choice] / math.fsum(weights)
        self.taken = (*self.taken, choice)
        return choice

    def seed(self) -> int | None:
        return None

    def plain(self) -> Rng:
        return self

    def fork(self) -> Rng:
        return self  # on the toy nothing waits, so that even concurrent work draws in one order


def bind(decoder: Decoder, models: Models, sampling: Sampling = ONE) -> BoundRun:
    """Return the decoder as a function of its randomness alone: it answers an empty prompt with these models."""
    return lambda rng: decoder.decode(PROMPT, models, sampling, rng)


async def every_path(run: BoundRun, given: Path = ()) -> list[tuple[float, Outcome]]:
    """Return each way a run can end, with its probability; these sum to one. `given` fixes the first choices."""
    outcomes: list[tuple[float, Outcome]] = []
    todo = [given]
    while todo:
        rng = EnumeratingRng(todo.pop(), len(given))
        outcome = await _outcome(run(rng))
        outcomes.append((rng.probability, outcome))
        todo += rng.passed_by
    mass = math.fsum(p for p, _ in outcomes)
    assert math.isclose(mass, 1.0, abs_tol=1e-12), f"the paths' probabilities sum to {mass!r}"
    return outcomes


async def law(run: BoundRun, given: Path = ()) -> dict[Tokens, float]:
    """Return the probability of each answer of a run with one result; () stands for a run that failed."""
    return collect(await every_path(run, given), answer)


async def joint_law(run: BoundRun, given: Path = ()) -> dict[tuple[Tokens, ...], float]:
    """Return the probability of each list of results, in order; () stands for a run that failed."""
    return collect(await every_path(run, given), answers)


def collect(outcomes: Sequence[tuple[float, Outcome]], key: Callable[[Outcome], K]) -> dict[K, float]:
    """Return the law of a function of the outcome."""
    out: defaultdict[K, float] = defaultdict(float)
    for p, outcome in outcomes:
        out[key(outcome)] += p
    return dict(out)


def mean(outcomes: Sequence[tuple[float, Outcome]], of: Callable[[Done], float]) -> float:
    """Return the mean of a number over runs that all succeed."""
    return math.fsum(p * of(done(outcome)) for p, outcome in outcomes)


def done(outcome: Outcome) -> Done:
    """Return the end of a run that succeeded; raise the error of one that failed."""
    if isinstance(outcome, DecantError):
        raise outcome
    return outcome


def answers(outcome: Outcome) -> tuple[Tokens, ...]:
    """Return the tokens of each result; () for a run that failed."""
    return tuple(r.candidate.tokens for r in outcome.results) if isinstance(outcome, Done) else ()


def answer(outcome: Outcome) -> Tokens:
    """Return the tokens of the one result; () for a run that failed."""
    if isinstance(outcome, DecantError):
        return ()
    (only,) = answers(outcome)
    return only


async def _outcome(events: AsyncGenerator[Event]) -> Outcome:
    last: Event | None = None
    try:
        async for event in events:
            last = event
    except DecantError as error:
        return error
    assert isinstance(last, Done), "a run ends with Done"
    return last
