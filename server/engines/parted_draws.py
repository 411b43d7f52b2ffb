"""Draws of several samples in parts, as the request's places allow."""

import asyncio
from collections.abc import AsyncGenerator, Callable
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
    count = await turns.take(n, tokens)
    if count == n:
        async with aclosing(_part(0, n, turns, draw)) as items:
            async for item in items:
                yield item
        return
    queue: asyncio.Queue[tuple[int, Candidate] | None] = asyncio.Queue()

    async def pump(first: int, count: int) -> None:
        try:
            async with aclosing(_part(first, count, turns, draw)) as items:
                async for item in items:
                    queue.put_nowait(item)
        finally:
            queue.put_nowait(None)

    async def begin() -> None:
        first = 0
        try:
            taken = count
            while True:
                tasks.append(asyncio.create_task(pump(first, taken)))
                first += taken
                if first == n:
                    break
                taken = await turns.take(n - first, tokens)
        finally:
            queue.put_nowait(None)

    tasks: list[asyncio.Task[None]] = []
    tasks.append(asyncio.create_task(begin()))
    try:
        ended = 0
        while ended < len(tasks):
            item = await queue.get()
            if item is not None:
                yield item
                continue
            ended += 1
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _part(first: int, count: int, turns: Turns, draw: Callable[[int, int], Drawn]) -> Drawn:
    left = count
    try:
        async with aclosing(draw(first, count)) as items:
            async for index, candidate in items:
                if candidate.finish is not None:
                    left -= 1
                    turns.end(1)
                yield first + index, candidate
    finally:
        if left:
            turns.end(left)
