"""POST /v1/rewards."""

import asyncio
import math
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Send

from decoders.events import Result
from decoders.score import Score, ScoreInfo
from server.http.auth import client_of
from server.http.body import BodyReader
from server.http.json_response import json_response
from server.http.prompts import encode_chat
from server.http.response_writers import JsonWriter
from server.http.run_response import RunResponse
from server.http.schemas.responses import RewardList, ScoredCompletion, ScoringCost
from server.http.schemas.rewards import RewardsBody
from server.runtime.checks import check_budget, check_engines, check_length, check_work
from server.runtime.request_runner import Job, RequestRunner
from server.runtime.state import ServerState
from server.telemetry.request_info import request_info


class RewardsWriter(JsonWriter):
    """Sends the rewards of each completion by name, and their weighted sum."""

    def __init__(self, send: Send, model: str) -> None:
        super().__init__(send)
        self._model = model

    def _response(self, queued: float) -> Response:
        done = self._ends[0]
        cost = ScoringCost(
            generated_tokens=done.cost.generated_tokens,
            scored_tokens=done.cost.scored_tokens,
            seconds={"queue": queued, **done.cost.seconds},
        )
        data = [_scored(i, result) for i, result in enumerate(done.results)]
        return json_response(RewardList(object="list", model=self._model, data=data, cost=cost))


def _scored(index: int, result: Result) -> ScoredCompletion:
    optional: dict[str, Any] = {} if result.calibrated is None else {"calibrated_rewards": result.calibrated}
    measured: dict[str, Any] = {} if result.policy_logprob is None else {"policy_logprob": result.policy_logprob}
    if result.info is not None:
        measured["guided_logprob"] = result.diagnostics(ScoreInfo).guided_logprob
    total = result.scored.total if result.rewards else math.nan
    return ScoredCompletion(index=index, object="reward", rewards=result.rewards, **optional, total=total, **measured)


def router(state: ServerState) -> APIRouter:
    """Return the routes. They raise `DecantError` for a request that is refused before any work."""
    routes = APIRouter()
    text, models = state.loaded.text, state.loaded.models
    bodies = BodyReader(state)

    @routes.post("/v1/rewards")
    async def rewards(request: Request) -> Response:
        arrived = time.perf_counter()
        body = await bodies.read(request, RewardsBody)
        check_work(client_of(request), "rewards")
        check_engines(state.loaded.up())
        if body.messages is not None:
            prompt = await encode_chat(body.messages, body, text)
        else:
            prompt = await text.encode(body.prompt or "")
        completions = await asyncio.gather(*(text.completion(c, ended=body.ended) for c in body.completions))
        sampling = body.sampling(prompt, text.max_model_len)
        if body.calibrated:
            check_length(prompt, sampling, text, "prompt" if body.messages is None else "messages", "max_tokens")
            with body.client_fields.translated():
                text.check(sampling)
        score = Score(
            completions,
            body.reward,
            calibrated=body.calibrated,
            number=body.rollouts,
            on_demand=body.on_demand,
            policy_logprob=body.policy_logprob,
            guides=body.guides,
        )
        with body.client_fields.translated():
            score.check(models)
        max_cost = score.max_cost(sampling, models)
        check_budget(max_cost, state.settings, "rollouts")
        job = Job(
            score,
            "rewards",
            [(prompt, sampling)],
            body.seed,
            arrived,
            client_of(request),
            body.client_fields.as_sent,
            max_generated=max_cost.generated_tokens,
            read_tokens=sum(len(completion.tokens) for completion in completions),
            model=body.model,
            cost_field="completions",
        )
        info = request_info()
        info.operation, info.model = "rewards", state.model
        return RunResponse(RequestRunner(state, job), lambda send: RewardsWriter(send, state.model))

    return routes
