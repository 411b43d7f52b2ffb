"""POST /v1/rewards."""

import asyncio
import time

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Send

from decoders.errors import DecantError
from decoders.score import Score
from server.http.response_writers import JsonWriter, send_json
from server.http.schemas.rewards import RewardsBody
from server.runtime.request_runner import Answer, Job
from server.runtime.service import Service


class RewardsWriter(JsonWriter):
    """A list with the rewards of each completion by name, and their weighted sum."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._dones = {}

    async def finish(self, send: Send, queued: float) -> None:
        done = self._dones[0]
        data = [
            {
                "index": i,
                "object": "reward",
                "rewards": s.rewards,
                **({} if s.calibrated is None else {"calibrated_rewards": s.calibrated}),
                "total": s.total,
            }
            for i, s in enumerate(done.candidates)
        ]
        cost = {
            "generated_tokens": done.cost.generated_tokens,
            "scored_tokens": done.cost.scored_tokens,
            "seconds": {"queue": queued, **done.cost.seconds},
        }
        await send_json({"object": "list", "model": self._model, "data": data, "cost": cost}, send)


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/rewards")
    async def rewards(request: Request) -> Response:
        arrived = time.perf_counter()
        text, models = service.loaded.text, service.loaded.models
        try:
            body = await service.parse(request, RewardsBody)
            service.check_engines()
            models.resolve_rewards(body.reward, "reward")
            if body.messages is not None:
                prompt = await text.chat([m.plain() for m in body.messages], body.turn)
            else:
                prompt = await text.encode(body.prompt or "")
            completions = await asyncio.gather(*(text.completion(c, ended=body.ended) for c in body.completions))
            sampling = body.sampling(prompt, text.max_model_len)
            if body.calibrated:
                service.check_length(prompt, sampling, "prompt" if body.messages is None else "messages", "max_tokens")
                text.check(sampling)
            score = Score(
                completions, body.reward, calibrated=body.calibrated, count=body.rollouts, on_demand=body.on_demand
            )
            service.check_budget(score.max_cost(sampling, models), "rollouts")
        except DecantError as error:
            return service.refuse(error)
        return Answer(
            service, Job(score, "rewards", [(prompt, sampling)], body.seed, arrived), RewardsWriter(service.model)
        )

    return routes
