"""Draws of several samples in parts, as the request's places allow."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from decoders.core import Candidate, Turns

Drawn = AsyncGenerator[tuple[int, Candidate]]


async def draw_in_parts(n: int, tokens: int, turns: Turns, draw: Callable[[int, int], Drawn]) -> Drawn:
    """Yield (index, candidate or piece of one) of `n` samples; each part begins when `turns` has places for it.

    A sample's place is given back when the sample has finished. The first failure ends all, and so does closing this.

    Args:
        tokens: how many one sample may have.
        draw: draws a part, given the index of its first sample and how many it has. What a sample is must not depend on
            the part that it is in: then an answer does not depend on how busy the server was.
    """
    held = 0

    async def take(wanted: int) -> int:
        nonlocal held
        taken = await turns.take(wanted, tokens)
        held += taken
        return taken

    async def part(first: int, count: int) -> Drawn:
        nonlocal held
        async with aclosing(draw(first, count)) as items:
            async for index, candidate in items:
                if candidate.finish is not None:
                    held -= 1
                    turns.end(1)
                yield first + index, candidate

    try:
        count = await take(n)
        drawn = part(0, n) if count == n else _merged(n, count, take, part)
        async with aclosing(drawn) as items:
            async for item in items:
                yield item
    finally:
        if held:
            turns.end(held)


async def _merged(
    n: int, count: int, take: Callable[[int], Awaitable[int]], part: Callable[[int, int], Drawn]
) -> Drawn:
    """Yield what parts draw at the same time; the first has `count` samples, the others as many as `take` gives."""
    queue: asyncio.Queue[tuple[int, Candidate] | None] = asyncio.Queue()

    async def pump(first: int, count: int) -> None:
        try:
            async with aclosing(part(first, count)) as items:
                async for item in items:
                    queue.put_nowait(item)
        finally:
            queue.put_nowait(None)

    async def begin() -> None:
        first, taken = 0, count
        try:
            while True:
                tasks.append(asyncio.create_task(pump(first, taken)))
                first += taken
                if first == n:
                    break
                taken = await take(n - first)
        finally:
            queue.put_nowait(None)

    tasks: list[asyncio.Task[None]] = []
    tasks.append(asyncio.create_task(begin()))
    try:
        ended = 0
        while ended < len(tasks):
            came = await queue.get()
            if came is not None:
                yield came
                continue
            ended += 1
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
