"""Concurrent work whose first failure stops the rest, and is what the caller sees."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def as_done(work: Sequence[Coroutine[Any, Any, T]]) -> AsyncGenerator[tuple[int, T]]:
    """Yield (index, result) of each as it is done. The first failure stops the others, and so does closing this."""
    tasks = [asyncio.ensure_future(one) for one in work]
    index = {task: i for i, task in enumerate(tasks)}
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield index[task], task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def merge(runs: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Yield (index of its generator, item) for the items of all generators as they come. The first failure ends all."""
    if len(runs) == 1:
        async with aclosing(runs[0]) as run:
            async for item in run:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()

    async def pump(index: int, run: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(run):
                async for item in run:
                    queue.put_nowait((index, item))
        finally:
            queue.put_nowait(None)

    pumps = [asyncio.create_task(pump(i, run)) for i, run in enumerate(runs)]
    try:
        left = len(pumps)
        while left:
            came = await queue.get()
            if came is not None:
                yield came
                continue
            left -= 1
            for task in pumps:
                if task.done():
                    task.result()
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Return the two results of concurrent work; failures are as in `together`."""
    try:
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(one), group.create_task(other)
    except BaseExceptionGroup as errors:
        raise first_cause(errors) from None
    return first.result(), second.result()


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of concurrent work, in order. The first failure stops the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise first_cause(errors) from None
    return [task.result() for task in tasks]


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group of concurrent ones."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
