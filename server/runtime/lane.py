"""A request's places, and the lane that it is in."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from server.runtime.fair_queue import FairQueue
from server.runtime.service_rate import ServiceRate


class Source(Protocol):
    """What gives places and takes them back."""

    async def take(self, place: "Place", asked: int, least: int, tokens: int) -> int: ...

    def release(self, place: "Place", sequences: int) -> None: ...


@dataclass(eq=False, slots=True)
class Place:
    """What a request holds. Where it is wide, its draws ask this as `Turns`: see `decoders.core`."""

    _source: Source
    lane: "Lane"
    order: tuple[int, int]
    flow: str
    weight: float
    held: int = 0
    drawing: int = 0
    charged: float = 0.0
    used: float | None = None
    """The tokens that the request has really cost, once that is known: its flow is charged with these."""

    @property
    def turns(self) -> "Place | None":
        """What a wide request asks before it draws sequences. A narrow one holds all its places, and asks nobody."""
        return self if self.lane.wide else None

    async def take(self, sequences: int, tokens: int) -> int:
        """Wait until one or more of `sequences` may be drawn; return how many. Each may have so many tokens."""
        taken = min(sequences, self.held - self.drawing)
        if taken <= 0:
            taken = await self._source.take(self, sequences, 1, tokens)
        self.drawing += taken
        return taken

    def end(self, sequences: int) -> None:
        """Give back the places of so many sequences that have ended."""
        self.drawing -= sequences
        self._source.release(self, sequences)

    def charge(self, cost: float) -> None:
        """Charge the request's flow with the tokens that sequences which start now will probably cost."""
        self.lane.queue.charge(self.flow, self.weight, cost)
        self.charged += cost

    def correct(self, cost: float) -> None:
        """Change what the request's flow is charged with to `cost`."""
        self.lane.queue.settle(self.flow, cost - self.charged)
        self.charged = cost


@dataclass(eq=False, slots=True)
class Turn:
    """A wait for places: `granted` will be how many of those `asked` for, `least` or more.

    `entering` says that its request has none yet, and may still be refused.
    """

    place: Place
    asked: int
    least: int
    tokens: int
    entering: bool
    granted: "asyncio.Future[int]"


@dataclass(eq=False, slots=True)
class Lane:
    """Requests of one kind: those that wait for places, and how many places the others hold."""

    wide: bool
    queue: FairQueue[Turn] = field(default_factory=FairQueue)
    rate: ServiceRate = field(default_factory=ServiceRate)
    running: int = 0

    def wait(self, place: Place) -> float | None:
        """Return how many seconds a request that comes now will probably wait, or None if that is unknown."""
        return self.rate.seconds(self.queue.cost_ahead(place.flow, place.weight))

    def entering(self, flow: str) -> Iterator[Turn]:
        """Return a flow's requests that wait to enter, the last one first."""
        return (turn for turn in self.queue.backwards(flow) if turn.entering and not turn.granted.done())
