"""POST /classify, /pooling and /score: rewards as vLLM serves a pooling model, for clients that know that one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Send

from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.engines.rewards.raw_reward import RawReward, ReadText, ScoredPairs
from server.errors import UnknownModel
from server.http.auth import client_of
from server.http.body import BodyReader
from server.http.json_response import json_response
from server.http.response_writers import JsonWriter
from server.http.run_response import RunResponse
from server.http.schemas.pooling import ClassifyBody, OfReward, PoolingBody, ScoreBody
from server.http.schemas.pooling_responses import (
    Classification,
    Classified,
    PairScores,
    PooledText,
    Pooling,
    PoolingUsage,
    ScoredPair,
)
from server.http.schemas.response_model import ResponseModel
from server.runtime.checks import check_engines, check_work
from server.runtime.raw_run import RawRun
from server.runtime.request_runner import Job, RequestRunner
from server.runtime.state import ServerState
from server.telemetry.request_info import request_info

Asked = TypeVar("Asked", bound=OfReward)
Answered = Callable[[dict[str, Any], Sequence[Any]], ResponseModel]


class RawWriter(JsonWriter):
    """Sends a run's values in the shape of an endpoint."""

    def __init__(self, send: Send, run: RawRun, head: dict[str, Any], answered: Answered) -> None:
        super().__init__(send)
        self._run, self._head, self._answered = run, head, answered

    def _response(self, queued: float) -> Response:  # noqa: ARG002
        read = sum(len(text.tokens) for text in self._run.texts)
        usage = PoolingUsage(
            prompt_tokens=read,
            total_tokens=read,
            completion_tokens=0,
            prompt_tokens_details=None,
            completion_tokens_details=None,
        )
        return json_response(self._answered({**self._head, "object": "list", "usage": usage}, self._run.values))


class PoolingRoutes:
    """The endpoints over a server's rewards."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._bodies = BodyReader(state)

    async def classify(self, request: Request) -> Response:
        arrived, (name, reward, body) = time.perf_counter(), await self._asked(request, ClassifyBody, "classify")
        if await reward.task() != "classify":
            raise InvalidRequest(f"The reward '{name}' has numbers for tokens alone: use /pooling.", "model")

        def answered(head: dict[str, Any], values: Sequence[list[float]]) -> ResponseModel:
            data = [
                Classified(index=i, label=reward.label(row.index(max(row))), probs=row, num_classes=len(row))
                for i, row in enumerate(values)
            ]
            return Classification(**head, data=data)

        texts = await _read(reward, body)
        return self._respond("classify", request, arrived, name, body, texts, reward.whole, answered)

    async def pooling(self, request: Request) -> Response:
        arrived, (name, reward, body) = time.perf_counter(), await self._asked(request, PoolingBody, "pooling")
        task = await reward.task()
        if body.task not in (None, task):
            raise InvalidRequest(f"The reward '{name}' is served for the task {task}.", "task")

        def answered(head: dict[str, Any], values: Sequence[Any]) -> ResponseModel:
            data = [PooledText(index=i, object="pooling", data=value) for i, value in enumerate(values)]
            return Pooling(**head, data=data)

        texts = await _read(reward, body)
        numbers = reward.whole if task == "classify" else reward.each
        return self._respond("pooling", request, arrived, name, body, texts, numbers, answered)

    async def score(self, request: Request) -> Response:
        arrived, (name, reward, body) = time.perf_counter(), await self._asked(request, ScoreBody, "score")
        if await reward.task() != "classify" or reward.outputs != 1:
            raise InvalidRequest(f"The reward '{name}' does not have one number for a text.", "model")

        def answered(head: dict[str, Any], values: Sequence[list[float]]) -> ResponseModel:
            data = [ScoredPair(index=i, object="score", score=row[0]) for i, row in enumerate(values)]
            return PairScores(**head, data=data)

        texts = await asyncio.gather(*(reward.pair(first, second) for first, second in body.pairs))
        return self._respond("score", request, arrived, name, body, texts, reward.whole, answered)

    async def _asked(self, request: Request, kind: type[Asked], work: str) -> tuple[str, RawReward, Asked]:
        """Return the reward that a request is for, and its body. Raises `InvalidRequest`, `UnknownModel`, ..."""
        check_work(client_of(request), work)
        body = await self._bodies.read_as_sent(request, kind)
        loaded = self._state.loaded
        if body.model and body.model not in loaded.models.rewards:
            known = ", ".join(f"'{name}'" for name in loaded.models.rewards) or "none"
            raise UnknownModel(f"There is no reward '{body.model}'. Rewards: {known}.")
        try:
            [name] = loaded.models.resolve_rewards(body.model or None)
        except InvalidRequest as error:
            raise InvalidRequest(str(error), "model") from error
        check_engines(loaded.up())
        reward = loaded.raw.get(name) or ScoredPairs(loaded.models.rewards[name], loaded.text)
        return name, reward, body

    def _respond(
        self,
        prefix: str,
        request: Request,
        arrived: float,
        name: str,
        body: OfReward,
        texts: Sequence[ReadText],
        numbers: Callable[[ReadText, bool | None], Awaitable[Any]],
        answered: Answered,
    ) -> RunResponse:
        run = RawRun(name, texts, lambda text: numbers(text, body.use_activation))
        read = sum(len(text.tokens) for text in texts)
        job = Job(
            run,
            prefix,
            [(Prompt((), ""), Sampling())],
            None,
            arrived,
            client_of(request),
            read_tokens=read,
            read_rewards=len(texts),
            model=name,
        )
        info = request_info()
        info.operation, info.model, info.answer = prefix, name, f"{prefix}-{body.request_id or info.id}"
        head = {"id": info.answer, "created": int(time.time()), "model": name}
        return RunResponse(RequestRunner(self._state, job), lambda send: RawWriter(send, run, head, answered))


async def _read(reward: RawReward, body: ClassifyBody) -> list[ReadText]:
    """Return the texts of a body as the reward's model reads them. Raises `InvalidRequest`."""
    special = body.add_special_tokens
    if body.messages is None:
        return await asyncio.gather(*(reward.text(text, special=special is not False) for text in body.texts))
    messages = [message.plain() for message in body.messages]
    reply, continued = body.add_generation_prompt, body.continue_final_message
    return [await reward.chat(messages, reply=reply, continued=continued, special=special is True)]


def router(state: ServerState) -> APIRouter:
    """Return the routes. They raise `DecantError` for a request that is refused before any work."""
    routes = APIRouter()
    own = PoolingRoutes(state)
    for path, endpoint in (
        ("/classify", own.classify),
        ("/pooling", own.pooling),
        ("/score", own.score),
        ("/v1/score", own.score),
    ):
        routes.add_api_route(path, endpoint, methods=["POST"])
    return routes
