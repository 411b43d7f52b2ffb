"""Admission: which requests may run now, which wait, and which are refused."""

import asyncio
import time
from bisect import insort_right
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter

from server.errors import Overloaded


class Admission:
    """Admits requests by priority, and then in the order of their arrival, up to a number of sequences at a time.

    A request that may draw more sequences than that takes all places; the engine queues its other sequences.

    Args:
        max_sequences: how many sequences all running requests together may draw at the same time.
        max_queue: how many requests may wait; more are refused.
    """

    def __init__(self, max_sequences: int, max_queue: int) -> None:
        self._capacity = max_sequences
        self._free = max_sequences
        self._max_queue = max_queue
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._seconds = 1.0  # how long a request runs: a moving average
        self.draining = False

    @property
    def idle(self) -> bool:
        """Whether no request runs or waits."""
        return self._free == self._capacity and not self._waiting

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, sequences: int, priority: int = 0) -> AsyncIterator[None]:
        """Hold places for `sequences` inside the `with` block, after a wait if need be. Raises `Overloaded`.

        Args:
            priority: a lower one is admitted before others that wait.
        """
        width = min(sequences, self._capacity)
        if self.draining:
            raise Overloaded("The server is shutting down. Try another one, or later.", "draining", 5)
        if self._waiting or width > self._free:
            if len(self._waiting) >= self._max_queue:
                message = f"All places are taken, and {len(self._waiting)} requests wait already. Try again later."
                raise Overloaded(message, "queue_full", self._retry_after())
            await self._wait(width, priority)
        else:
            self._free -= width
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)
            self._release(width)

    async def _wait(self, width: int, priority: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (priority, width, turn)
        insort_right(self._waiting, entry, key=itemgetter(0))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the places were assigned just before this request was cancelled
                self._release(width)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._release(0)  # the requests behind it may fit now
            raise

    def _release(self, width: int) -> None:
        self._free += width
        while self._waiting and (self._waiting[0][1] <= self._free or self._waiting[0][2].cancelled()):
            _, next_width, turn = self._waiting.pop(0)
            if not turn.cancelled():  # a cancelled request has yet to leave the queue
                self._free -= next_width
                turn.set_result(None)

    def _retry_after(self) -> int:
        """Return in how many seconds a request has probably ended: the average time of one, from 1 to 60."""
        return max(1, min(60, round(self._seconds)))
