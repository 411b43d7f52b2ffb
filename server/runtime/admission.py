"""Admission: which requests may run now, which wait, and which are refused.

Requests are in two lanes. A narrow one holds all its places until its end. A wide one takes places for the sequences
that it is about to draw, and gives each back when that sequence ends: so its width can change, and its answer does not.
While narrow requests are there, the wide ones together have `wide_share` places, which the narrow ones leave them; else
they have all but a few, so that the next narrow request finds a place at once.

In a lane flows are served by start-time fair queueing, and in a flow requests by priority and age.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from operator import itemgetter

from server.errors import Overloaded
from server.runtime.lane import Lane, Place, Turn

LINGER = 1.0  # seconds that narrow requests count as there after the last one: clients send the next one soon
KEPT_FREE = 8  # one of so many places is kept free of wide requests


class Admission:
    """Admits requests up to a number of sequences at a time, by lanes, flows, priority and age.

    Args:
        max_sequences: how many sequences all running requests together may draw at the same time.
        max_queue: how many requests may wait. Where more come, the flow with the most of them waiting loses its last.
        narrow: how many sequences a request of the narrow lane may draw at the same time.
        wide_share: how many sequences wide requests together may draw while narrow ones are there.
        max_wait: seconds that a request may wait; one that would probably wait longer is refused at once.
    """

    def __init__(
        self, max_sequences: int, max_queue: int, *, narrow: int = 8, wide_share: int = 16, max_wait: float = math.inf
    ) -> None:
        self._capacity = max_sequences
        self._max_queue = max_queue
        self._max_wait = max_wait
        # One place cannot be shared: then all requests are narrow.
        self._share = min(wide_share, max_sequences - 1)
        self._width = min(narrow, max_sequences - self._share) if self._share else max_sequences
        self._lanes = self._narrow, self._wide = Lane(wide=False), Lane(wide=True)
        self._ages = count()
        self._inside = self._queued = 0
        self._there_until = -math.inf
        self._wake: asyncio.TimerHandle | None = None
        self._seconds = 1.0  # how long a request runs: a moving average
        self.draining = False

    @property
    def idle(self) -> bool:
        """Whether no request runs or waits."""
        return not self._inside

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return self._queued

    def running(self, *, wide: bool) -> int:
        """Return how many places a lane's requests hold."""
        return self._lanes[wide].running

    @asynccontextmanager
    async def place(
        self, sequences: int, priority: int = 0, *, tokens: int = 1, extra: int = 0, flow: str = "", weight: float = 1.0
    ) -> AsyncIterator[Place]:
        """Hold places inside the `with` block, after a wait if need be. Raises `Overloaded`.

        Args:
            sequences: how many sequences the request may draw at the same time.
            priority: a lower one is admitted before others of its flow that wait.
            tokens: how many tokens one of these sequences may have.
            extra: tokens that the request costs besides, such as its prompts'.
            flow: whose request it is.
            weight: the flow's share.
        """
        if self.draining:
            raise Overloaded("The server is shutting down. Try another one, or later.", "draining", 5)
        lane = self._lanes[sequences > self._width]
        width = min(sequences, self._capacity)
        place = Place(self, lane, (priority, next(self._ages)), flow, weight)
        self._inside += 1
        try:
            await self.take(place, width, 1 if lane.wide else width, tokens, entering=True)
            place.correct(place.charged + extra)
            clock = asyncio.get_running_loop().time
            started = clock()
            try:
                yield place
            finally:
                self._seconds += 0.1 * (clock() - started - self._seconds)
                if place.used is not None:
                    place.correct(place.used)
                self.release(place, place.held)
        finally:
            self._inside -= 1

    async def take(self, place: Place, asked: int, least: int, tokens: int, *, entering: bool = False) -> int:
        """Return how many of the places that are asked for are granted, `least` of them or more."""
        lane = place.lane
        if not lane.queue and self._room(lane) >= least:
            return self._grant(place, asked, tokens)
        if entering:
            self._refuse_or_make_room(place)
        loop = asyncio.get_running_loop()
        turn = Turn(place, asked, least, tokens, entering, loop.create_future())
        if not lane.queue:
            lane.rate.waiting_since(loop.time())
        lane.queue.push(place.flow, place.weight, place.order, asked * tokens, turn)
        self._queued += entering
        late = loop.call_later(self._max_wait, self._late, turn) if entering and self._max_wait < math.inf else None
        self._wake_when_calm()
        try:
            return await turn.granted
        except BaseException:
            if turn.granted.done() and not turn.granted.cancelled() and turn.granted.exception() is None:
                self.release(place, turn.granted.result())  # granted just before this request was cancelled
            elif lane.queue.remove(place.flow, turn):
                self._dispatch()  # the requests behind it may fit now
            raise
        finally:
            self._queued -= entering
            if late is not None:
                late.cancel()

    def _refuse_or_make_room(self, place: Place) -> None:
        """Raise `Overloaded` for a request that is not to wait; or refuse another one, of a flow with more of them."""
        wait = place.lane.wait(place)
        if wait is not None and wait > self._max_wait:
            raise _overloaded(f"this request would wait for {wait:.0f} s", "wait_too_long", wait - self._max_wait)
        if self._queued < self._max_queue:
            return
        full = f"{self._queued} requests wait already"
        longest = [(found[1], found[0], lane) for lane in self._lanes if (found := lane.queue.longest())]
        length, flow, lane = max(longest, key=itemgetter(0), default=(0.0, "", place.lane))
        if length > place.lane.queue.length(place.flow) + 1 / place.weight:
            last = next(lane.entering(flow), None)
            if last is not None:
                lane.queue.remove(flow, last)
                last.granted.set_exception(_overloaded(full, "queue_full", lane.wait(last.place) or self._seconds))
                return
        raise _overloaded(full, "queue_full", self._seconds if wait is None else wait)

    def _late(self, turn: Turn) -> None:
        if not turn.granted.done():
            waited = f"this request has waited for {self._max_wait:g} s"
            turn.granted.set_exception(_overloaded(waited, "wait_too_long", turn.place.lane.wait(turn.place) or 1.0))

    def _room(self, lane: Lane) -> int:
        """Return how many places a lane's next request may take."""
        free = self._capacity - self._narrow.running - self._wide.running
        if not lane.wide:
            return free - max(0, self._share - self._wide.running) if self._wide.queue else free
        limit = self._share if self._narrow_is_there() else self._capacity - self._capacity // KEPT_FREE
        return min(free, limit - lane.running)

    def _narrow_is_there(self) -> bool:
        return bool(self._narrow.running or self._narrow.queue) or _now() < self._there_until

    def _grant(self, place: Place, asked: int, tokens: int) -> int:
        lane = place.lane
        granted = min(asked, self._room(lane))
        lane.running += granted
        place.held += granted
        place.charge(granted * tokens)
        return granted

    def release(self, place: Place, sequences: int) -> None:
        lane = place.lane
        lane.running -= sequences
        place.held -= sequences
        if sequences and lane is self._narrow and not lane.running:
            self._there_until = _now() + LINGER
        self._dispatch()

    def _dispatch(self) -> None:
        """Let those in who fit, the narrow ones first."""
        for lane in self._lanes:
            while (turn := lane.queue.first()) is not None:
                if turn.granted.done():  # it was cancelled or refused, and has yet to leave the queue
                    lane.queue.pop()
                elif self._room(lane) >= turn.least:
                    lane.queue.pop()
                    granted = self._grant(turn.place, turn.asked, turn.tokens)
                    lane.rate.started(_now(), granted * turn.tokens)
                    turn.granted.set_result(granted)
                else:
                    break
        self._wake_when_calm()

    def _wake_when_calm(self) -> None:
        """Let wide requests in once the narrow ones are gone for long enough, although nothing ends then."""
        if self._wake is not None or not self._wide.queue or self._narrow.running or self._narrow.queue:
            return
        if (wait := self._there_until - _now()) > 0:
            self._wake = asyncio.get_running_loop().call_later(wait, self._calm)

    def _calm(self) -> None:
        self._wake = None
        self._dispatch()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _overloaded(why: str, reason: str, seconds: float) -> Overloaded:
    """Return the refusal of a request that may succeed in so many seconds, of which clients are told from 1 to 60."""
    return Overloaded(f"All places are taken, and {why}. Try again later.", reason, max(1, min(60, math.ceil(seconds))))
