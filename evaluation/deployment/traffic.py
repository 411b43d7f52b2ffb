"""What clients of a server do, good ones and others: every strategy, guides, streams, mistakes, bursts, departures."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx

Json = dict[str, Any]

TOKENS = 16
CLIENTS = 3  # at once, beside the bursts
BURST = 24  # requests at once, which must be more than the server's places and queue together
EACH = 30.0  # seconds from burst to burst
# Longer than a block of the engine's prefix cache, so that it has something to find again.
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
    {"prompt": PROMPT, "decoding": {"strategy": "best_of_n", "reward": "unheard"}},
)


def bodies() -> Iterator[Json]:
    """Requests for ever: each strategy at once and as a stream, with mistakes among them."""
    for turn in itertools.count():
        for index, decoding in enumerate(DECODINGS):
            yield {"prompt": PROMPT, "max_tokens": TOKENS, "decoding": decoding, "stream": (turn + index) % 3 == 0}
        yield MISTAKES[turn % len(MISTAKES)]


async def traffic(url: str, seconds: float, tick: Callable[[float], None]) -> Counter[int]:
    """So many seconds of it; `tick` is told how many have passed. The answers by their status, 0 for who left.

    Ends later than that where `DECODINGS` have not all been asked thrice: a counter that came with the first answer
    goes up with the second.
    """
    statuses: Counter[int] = Counter()
    asked, started = itertools.count(), time.monotonic()
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
                if next(asked) >= least and time.monotonic() - started > seconds:
                    over.set()

        async def burst() -> None:
            body = {"prompt": PROMPT, "max_tokens": TOKENS}
            await asyncio.gather(*(post(body) for _ in range(BURST)))

        async def leave() -> None:
            """A client that asks for much, and leaves."""
            try:
                async with asyncio.timeout(1):
                    await post({"prompt": PROMPT, "max_tokens": 512, "ignore_eos": True, "stream": True})
            except TimeoutError:
                statuses[0] += 1

        async def score() -> None:
            body = {"prompt": PROMPT, "completions": [" a joy.", " a bore."]}
            statuses[(await client.post("/v1/rewards", json=body)).status_code] += 1

        async def now_and_then() -> None:
            # The departure first: in the burst's wake, it would be refused and not leave.
            parts: tuple[Callable[[], Awaitable[None]], ...] = (leave, score, burst)
            while not over.is_set():
                for part in parts:
                    await part()
                await _either(over, EACH)

        async def watch() -> None:
            while not over.is_set():
                tick(time.monotonic() - started)
                await _either(over, 0.5)

        await asyncio.gather(now_and_then(), watch(), *(work() for _ in range(CLIENTS)))
    return statuses


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
