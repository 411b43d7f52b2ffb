"""Another server with a reward model, as a transport of httpx."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx

from decoders.core import Candidate, Prompt
from server.engines.rewards.batcher import Pair
from server.engines.rewards.remote_reward import RemoteReward
from server.settings import HttpReward
from tests.support.serving import PATIENCE, Json

Answer = Callable[[Json], httpx.Response]
CLASSIFY = "http://judge:8000/classify"
POOLING = "http://judge:8000/pooling"
GET_REWARD = "http://judge:8000/get_reward"


def pair(prompt: str, completion: str, messages: tuple[dict[str, str], ...] | None = None) -> Pair:
    return Prompt((1,), prompt, messages), Candidate((1,), completion, "stop")


def rewards(body: Json, url: str = CLASSIFY, others: tuple[float, ...] = ()) -> httpx.Response:
    """What vLLM answers: here the length of each text, and other outputs; in an order that only `index` tells."""
    texts = body["input"] if "input" in body else ["".join(m["content"] or "" for m in body["messages"])]
    values = [[float(len(text)), *others] for text in texts]
    if url == POOLING:
        data: list[Json] = [{"index": i, "object": "pooling", "data": v} for i, v in enumerate(values)]
    else:
        data = [{"index": i, "label": "LABEL_0", "probs": v, "num_classes": len(v)} for i, v in enumerate(values)]
    usage = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}
    return httpx.Response(200, json={"object": "list", "model": "judge", "data": data[::-1], "usage": usage})


@dataclass
class Judge:
    """The other server: keeps what it is asked, and answers by `answers` in turn, the last one again and again."""

    answers: list[Answer]
    bodies: list[Json] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        return self.answers[min(len(self.bodies), len(self.answers)) - 1](body)

    def ask(self, *pairs: Pair, url: str = CLASSIFY, **settings: Any) -> list[float]:
        async def test() -> list[float]:
            remote = RemoteReward(HttpReward(url=url, **settings), httpx.MockTransport(self.handle))
            try:
                return await remote.score(pairs)
            finally:
                await remote.aclose()

        return run(test())


def run(test: Coroutine[Any, Any, list[float]]) -> list[float]:
    return asyncio.run(asyncio.wait_for(test, PATIENCE))
