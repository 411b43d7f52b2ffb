"""Draws in parts: all samples come, places come back however it ends, and samples are those of one draw."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.core import Candidate
from decoders.errors import EngineFailed
from server.engines.parted_draws import draw_in_parts


class CountedTurns:
    """At most `limit` places at a time, of which one call gets at most `most`."""

    def __init__(self, limit: int, most: int) -> None:
        self.free = self.limit = limit
        self.most = most
        self.changed = asyncio.Condition()

    async def take(self, sequences: int, tokens: int) -> int:
        assert tokens == 7
        async with self.changed:
            await self.changed.wait_for(lambda: self.free)
            taken = min(self.free, sequences, self.most)
            self.free -= taken
            return taken

    def end(self, sequences: int) -> None:
        self.free += sequences
        assert self.free <= self.limit
        self._told = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class Draws:
    """Samples of two pieces each; the sample number `broken` fails."""

    def __init__(self, broken: int | None = None) -> None:
        self.parts: list[tuple[int, int]] = []
        self.open = 0
        self.broken = broken

    async def __call__(self, first: int, count: int) -> AsyncGenerator[tuple[int, Candidate]]:
        self.parts.append((first, count))
        self.open += 1
        try:
            for i in range(count):
                await asyncio.sleep(0)
                if first + i == self.broken:
                    raise EngineFailed("lost")
                yield i, Candidate((first + i,), "piece")
                yield i, Candidate((first + i,), "end", finish="stop")
        finally:
            self.open -= 1


@given(n=st.integers(1, 20), limit=st.integers(1, 20), most=st.integers(1, 20))
def test_every_sample_comes_once_under_its_own_number(n: int, limit: int, most: int) -> None:
    async def test() -> None:
        turns, draws = CountedTurns(limit, most), Draws()
        seen: dict[int, list[str]] = {}
        async with aclosing(draw_in_parts(n, 7, turns, draws)) as items:
            async for i, candidate in items:
                assert candidate.tokens == (i,)
                seen.setdefault(i, []).append(candidate.text)
        assert seen == {i: ["piece", "end"] for i in range(n)}
        assert sum(count for _, count in draws.parts) == n
        assert (turns.free, draws.open) == (limit, 0)

    asyncio.run(test())


def test_where_there_are_places_for_all_there_is_one_part() -> None:
    async def test() -> None:
        draws = Draws()
        assert len([item async for item in draw_in_parts(5, 7, CountedTurns(5, 5), draws)]) == 10
        assert draws.parts == [(0, 5)]

    asyncio.run(test())


@pytest.mark.parametrize("most", [2, 8])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_closing_it_gives_all_places_back(most: int, after: int) -> None:
    async def test() -> None:
        turns, draws = CountedTurns(4, most), Draws()
        async with aclosing(draw_in_parts(8, 7, turns, draws)) as items:
            for _ in range(after):
                await anext(items)
        assert (turns.free, draws.open) == (4, 0)

    asyncio.run(test())


@pytest.mark.parametrize("broken", [0, 3, 7])
def test_the_first_failure_ends_all_and_gives_all_places_back(broken: int) -> None:
    async def test() -> None:
        turns, draws = CountedTurns(4, 2), Draws(broken)
        with pytest.raises(EngineFailed, match="lost"):
            async for _ in draw_in_parts(8, 7, turns, draws):
                pass
        assert (turns.free, draws.open) == (4, 0)

    asyncio.run(test())
