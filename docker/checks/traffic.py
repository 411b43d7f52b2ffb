"""A mixed load: every strategy, guides, streams, invalid requests, bursts, and clients that disconnect."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx

Json = dict[str, Any]

TOKENS = 16
CLIENTS = 3  # that send one request after another, beside the bursts
BURST = 24  # requests at once: more than the server runs and queues together
INTERVAL = 30.0  # seconds between bursts
# Longer than a block of the engine's prefix cache, so that there are cache hits.
PROMPT = (
    "The film opens on a rainy street in an old town by the sea, where a young musician has lost the only letter that "
    "her brother ever wrote to her. What follows is"
)
DECODINGS: tuple[Json, ...] = (
    {"strategy": "sample", "reward": "default"},
    {"strategy": "sample", "guides": {"positive": 0.5}},
    {"strategy": "reward_guided", "guides": {"positive": 1.0}, "return_kl": True},
    {"strategy": "reward_guided", "guides": {"positive": 0.5, "brief": 0.5}, "reward": "default"},
    {"strategy": "best_of_n", "n": 4},
    {"strategy": "best_of_n", "n": 4, "select": {"by": "softmax", "beta": 0.5}},
    {"strategy": "controlled", "candidates": 2, "block_tokens": 8},
    {"strategy": "rejection", "calibrated": True, "rollouts": 8, "batch": 4, "beta": 0.5},
    {"strategy": "particles", "particles": 4, "block_tokens": 8, "beta": 1.0},
    {"strategy": "speculative_rejection", "n": 4, "checkpoints": [4]},
    {"strategy": "cascade", "accept_threshold": 1.0, "batch": 2, "max_tries": 4},
)
MISTAKES: tuple[Json, ...] = (
    {"prompt": PROMPT, "top_k": "many"},
    {"prompt": PROMPT, "model": "another"},
    {"prompt": PROMPT, "decoding": {"strategy": "best_of_n", "reward": "unknown"}},
)


def bodies() -> Iterator[Json]:
    """Yield requests without end: every decoding, streamed at every third turn, and an invalid one after each round."""
    for turn in itertools.count():
        for index, decoding in enumerate(DECODINGS):
            yield {"prompt": PROMPT, "max_tokens": TOKENS, "decoding": decoding, "stream": (turn + index) % 3 == 0}
        yield MISTAKES[turn % len(MISTAKES)]


async def traffic(url: str, seconds: float, tick: Callable[[float], None]) -> Counter[int]:
    """Send the load for `seconds`, or longer until each of `DECODINGS` was sent three times.

    Three times, since a counter that appears with the first answer increases only with the second.

    Args:
        url: the server's address.
        seconds: how long, at least.
        tick: called often with the seconds that have passed.

    Returns:
        The number of answers by status; 0 stands for a client that disconnected.
    """
    statuses: Counter[int] = Counter()
    sent, started = itertools.count(), time.monotonic()
    limits = httpx.Limits(max_connections=None)

    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        left = bodies()
        least = 3 * (len(DECODINGS) + 1)
        over = asyncio.Event()

        async def post(body: Json) -> None:
            answer = await client.post("/v1/completions", json=body)
            statuses[answer.status_code] += 1

        async def work() -> None:
            while not over.is_set():
                await post(next(left))
                if next(sent) >= least and time.monotonic() - started > seconds:
                    over.set()

        async def burst() -> None:
            body = {"prompt": PROMPT, "max_tokens": TOKENS}
            await asyncio.gather(*(post(body) for _ in range(BURST)))

        async def disconnect() -> None:
            """Request a long stream, and disconnect after a second."""
            try:
                async with asyncio.timeout(1):
                    await post({"prompt": PROMPT, "max_tokens": 512, "ignore_eos": True, "stream": True})
            except TimeoutError:
                statuses[0] += 1

        async def score() -> None:
            body = {"prompt": PROMPT, "completions": [" a joy.", " a bore."]}
            statuses[(await client.post("/v1/rewards", json=body)).status_code] += 1

        async def others() -> None:
            # Disconnect before the burst: after it, the queue is full and the request would be refused.
            parts: tuple[Callable[[], Awaitable[None]], ...] = (disconnect, score, burst)
            while not over.is_set():
                for part in parts:
                    await part()
                await _wait_for(over, INTERVAL)

        async def watch() -> None:
            while not over.is_set():
                tick(time.monotonic() - started)
                await _wait_for(over, 0.5)

        await asyncio.gather(others(), watch(), *(work() for _ in range(CLIENTS)))
    return statuses


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, `seconds` at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
