"""The exact law of a strategy: run it along every path of its random choices.

A strategy takes all its randomness from an `Rng`. `Branch` is one that leaves nothing to chance: it follows a given
path of choices, then takes the first open branch each time, and notes the branches it passed by. Visiting those in
turn visits every outcome once, with its probability.
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
Strategy = Callable[[Rng], AsyncGenerator[Event]]
End = Done | DecantError

PROMPT = Prompt((), "")
ONE = Sampling()


@dataclass
class Branch:
    """An `Rng` that follows `path`, then the first branch of positive probability at each choice.

    The first `given` choices count as certain.
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


def on(decoder: Decoder, models: Models, sampling: Sampling = ONE) -> Strategy:
    """The decoder as a function of its randomness alone."""
    return lambda rng: decoder.decode(PROMPT, models, sampling, rng)


async def every_path(run: Strategy, given: Path = ()) -> list[tuple[float, End]]:
    """Each way a run can end, with its probability; together one. `given` fixes the first choices."""
    ends: list[tuple[float, End]] = []
    todo = [given]
    while todo:
        rng = Branch(todo.pop(), len(given))
        end = await _end(run(rng))
        ends.append((rng.probability, end))
        todo += rng.passed_by
    mass = math.fsum(p for p, _ in ends)
    assert math.isclose(mass, 1.0, abs_tol=1e-12), f"the paths' probabilities sum to {mass!r}"
    return ends


async def law(run: Strategy, given: Path = ()) -> dict[Tokens, float]:
    """P(the one result is this); () where the run failed."""
    return collect(await every_path(run, given), answer)


async def joint_law(run: Strategy, given: Path = ()) -> dict[tuple[Tokens, ...], float]:
    """P(the results are these, in this order); () where the run failed."""
    return collect(await every_path(run, given), answers)


def collect(ends: Sequence[tuple[float, End]], key: Callable[[End], K]) -> dict[K, float]:
    """The law of a function of the end."""
    out: defaultdict[K, float] = defaultdict(float)
    for p, end in ends:
        out[key(end)] += p
    return dict(out)


def mean(ends: Sequence[tuple[float, End]], of: Callable[[Done], float]) -> float:
    """The mean of a number over runs that all succeed."""
    return math.fsum(p * of(done(end)) for p, end in ends)


def done(end: End) -> Done:
    if isinstance(end, DecantError):
        raise end
    return end


def answers(end: End) -> tuple[Tokens, ...]:
    return tuple(r.candidate.tokens for r in end.results) if isinstance(end, Done) else ()


def answer(end: End) -> Tokens:
    if isinstance(end, DecantError):
        return ()
    (only,) = answers(end)
    return only


async def _end(events: AsyncGenerator[Event]) -> End:
    last: Event | None = None
    try:
        async for event in events:
            last = event
    except DecantError as error:
        return error
    assert isinstance(last, Done)
    return last
