"""POST /v1/rewards."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Send

from decoders.core import Sampling
from decoders.errors import DecantError
from decoders.pool import weighted_sum
from decoders.score import Score
from server.answer import Answer, Job
from server.schemas.common import body_schema
from server.schemas.rewards import RewardsBody
from server.service import Service
from server.writers import JsonWriter, send_json


class RewardsWriter(JsonWriter):
    """A list with the rewards of each completion by name, and their weighted sum."""

    def __init__(self, model: str, weights: dict[str, float]) -> None:
        self._model = model
        self._weights = weights
        self._dones = {}

    async def finish(self, send: Send, queued: float) -> None:
        done = self._dones[0]
        columns = {name: [r.rewards[name] for r in done.results] for name in self._weights}
        totals = weighted_sum(columns, self._weights)
        data = [
            {"index": i, "object": "reward", "rewards": r.rewards, "total": total}
            for i, (r, total) in enumerate(zip(done.results, totals, strict=True))
        ]
        cost = {"scored_tokens": done.cost.scored_tokens, "seconds": {"queue": queued, **done.cost.seconds}}
        await send_json({"object": "list", "model": self._model, "data": data, "cost": cost}, send)


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/rewards", openapi_extra=body_schema(RewardsBody))
    async def rewards(request: Request) -> Response:
        text, models = service.loaded.text, service.loaded.models
        try:
            body = await service.parse(request, RewardsBody)
            service.check_engines()
            weights = models.weights(body.reward, "reward")
            if body.messages is not None:
                prompt = await text.chat([m.plain() for m in body.messages])
            else:
                prompt = await text.encode(body.prompt or "")
            completions = await asyncio.gather(*(text.completion(c, ended=body.ended) for c in body.completions))
        except DecantError as error:
            return service.refuse(error)
        job = Job(Score(completions, body.reward), "rewards", [(prompt, Sampling())], None)
        return Answer(service, job, RewardsWriter(service.model, weights))

    return routes
