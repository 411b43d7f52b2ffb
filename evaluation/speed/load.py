"""A load of completions requests at a fixed concurrency."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import aiohttp


def requests_per_second(url: str, bodies: list[dict[str, Any]], concurrency: int) -> float:
    """Send all `bodies`, `concurrency` at a time; return requests per second.

    Raises:
        SystemExit: an answer's status is not 200.
    """
    return asyncio.run(_rate(f"{url}/v1/completions", bodies, concurrency))


async def _rate(url: str, bodies: list[dict[str, Any]], concurrency: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work(left: Iterator[dict[str, Any]]) -> None:
            for body in left:
                async with session.post(url, json=body) as answer:
                    text = await answer.read()
                    if answer.status != 200:
                        raise SystemExit(f"{url} answered {answer.status}: {text[:500]!r}")

        left = iter(bodies)
        started = time.perf_counter()
        await asyncio.gather(*(work(left) for _ in range(concurrency)))
        return len(bodies) / (time.perf_counter() - started)
