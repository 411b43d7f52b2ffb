"""Start-time fair queueing: who is next among flows of work that share one server by weight.

    S(f) = max(v, F(f))            when work of flow f arrives and f had none that waits
    next = the flow with the smallest S; v = S(next)
    F(f) = S(f) + cost / weight(f)  when work of f starts; S(f) = F(f) while f has more

Law: while two flows both have work waiting, the costs that start, each over its flow's weight, differ by at most the
largest cost of one piece of each, over its weight. So no flow waits for ever. What breaks it: a cost is an estimate
until the work has ended. `settle` corrects it then, so the bound grows by the errors of those that have not.

Goyal, Vin and Cheng, Start-time fair queueing, SIGCOMM 1996.
"""

from bisect import insort_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    order: tuple[int, int]
    cost: float
    work: T


@dataclass(slots=True)
class _Flow(Generic[T]):
    name: str
    weight: float
    start: float = 0.0
    cost: float = 0.0
    waiting: list[_Entry[T]] = field(default_factory=list)


class FairQueue(Generic[T]):
    """Work that waits, by flow. Inside a flow the order is by priority, and then by age.

    A flow is kept for good, so there may be as many as the server has keys, and not one for each request.
    """

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[T]] = {}
        self._backlogged: dict[str, _Flow[T]] = {}
        self._virtual = 0.0

    def __bool__(self) -> bool:
        return bool(self._backlogged)

    def push(self, flow: str, weight: float, order: tuple[int, int], cost: float, work: T) -> None:
        """Let `work` wait.

        Args:
            weight: the flow's share against other flows, over 0.
            order: the priority, of which a lower one is served first, and the age, of which the smaller is older.
            cost: what the work will probably be charged.
        """
        own = self._flow(flow, weight)
        if not own.waiting:
            own.start = max(own.start, self._virtual)
            self._backlogged[flow] = own
        insort_right(own.waiting, _Entry(order, cost, work), key=_order)
        own.cost += cost

    def first(self) -> T | None:
        """Return the work that is next, or None if none waits."""
        return self._next().waiting[0].work if self._backlogged else None

    def pop(self) -> T:
        """Take out the work that is next."""
        return self._take(self._next(), 0)

    def remove(self, flow: str, work: T) -> bool:
        """Take out `work` of a flow; return whether it was waiting."""
        own = self._flows[flow]
        place = next((i for i, entry in enumerate(own.waiting) if entry.work is work), None)
        if place is not None:
            self._take(own, place)
        return place is not None

    def charge(self, flow: str, weight: float, cost: float) -> None:
        """Count work of a flow that starts now, whether it had waited or not, at `cost`."""
        own = self._flow(flow, weight)
        own.start = self._virtual = max(own.start, self._virtual)
        own.start += cost / own.weight

    def settle(self, flow: str, surplus: float) -> None:
        """Add to a flow's charges what its work cost more than was charged; less is negative."""
        own = self._flows[flow]
        own.start += surplus / own.weight

    def cost_ahead(self, flow: str, weight: float) -> float:
        """Return how much is served at most, of all flows, before work that a flow adds now."""
        own = self._flow(flow, weight)
        others = [other for other in self._backlogged.values() if other is not own]
        weights, costs = sum(other.weight for other in others), sum(other.cost for other in others)
        return own.cost + min(own.cost * weights / own.weight, costs)

    def longest(self) -> tuple[str, float] | None:
        """Return the flow with the most pieces waiting over its weight, and that number."""
        if not self._backlogged:
            return None
        flow = max(self._backlogged, key=self.length)
        return flow, self.length(flow)

    def length(self, flow: str) -> float:
        """Return how many pieces of a flow wait, over its weight."""
        own = self._flows.get(flow)
        return 0.0 if own is None else len(own.waiting) / own.weight

    def backwards(self, flow: str) -> Iterator[T]:
        """Return a flow's waiting work, the last one first."""
        return (entry.work for entry in reversed(self._flows[flow].waiting))

    def _flow(self, flow: str, weight: float) -> _Flow[T]:
        own = self._flows.get(flow)
        if own is None:
            own = self._flows[flow] = _Flow(flow, weight)
        own.weight = weight
        return own

    def _next(self) -> _Flow[T]:
        return min(self._backlogged.values(), key=_start)

    def _take(self, own: _Flow[T], place: int) -> T:
        entry = own.waiting.pop(place)
        own.cost -= entry.cost
        if not own.waiting:
            own.cost = 0.0  # without the rounding of many sums
            del self._backlogged[own.name]
        return entry.work


def _order(entry: _Entry[T]) -> tuple[int, int]:
    return entry.order


def _start(flow: _Flow[T]) -> float:
    return flow.start
