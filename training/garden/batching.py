"""Concurrent calls whose items are computed together, since a tiny model is fast only in large batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
TURNS = 10  # of the event loop in which other tasks may join a batch


class BatchedFunction(Generic[A, B]):
    """A function on lists as a coroutine: it runs once on the items of all calls that wait for it."""

    def __init__(self, compute: Callable[[list[A]], list[B]]) -> None:
        self._compute = compute
        self._waiting: list[tuple[Sequence[A], asyncio.Future[list[B]]]] = []

    async def __call__(self, items: Sequence[A]) -> list[B]:
        """Return the result of each item."""
        future: asyncio.Future[list[B]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if len(self._waiting) == 1:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            self._run()
        return await future

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        results = iter(self._compute([item for items, _ in waiting for item in items]))
        for items, future in waiting:
            future.set_result([next(results) for _ in items])
