"""GET /v1/models and GET /v1/strategies: what is served, and what may be asked of it."""

import inspect

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from decoders import STRATEGIES
from decoders.errors import InvalidRequest
from decoders.models import GUIDE_WEIGHT
from server.errors import UnknownModel
from server.http.errors import response
from server.http.routes.operations import READ
from server.runtime.state import ServerState


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()
    card = {
        "id": state.model,
        "object": "model",
        "created": state.created,
        "owned_by": "decant",
        "max_model_len": state.loaded.text.max_model_len,
    }

    @routes.api_route("/v1/models", methods=READ)
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [card]})

    @routes.api_route("/v1/models/{name:path}", methods=READ)
    async def model(name: str) -> Response:
        if name != state.model:
            return response(UnknownModel(f"The model '{name}' is not served here: '{state.model}' is."))
        return JSONResponse(card)

    @routes.api_route("/v1/strategies", methods=READ)
    async def strategies() -> Response:
        """Each strategy's JSON schema and law, and the rewards and guides they can use."""
        try:
            default = next(iter(state.loaded.models.resolve_rewards(None)))
        except InvalidRequest:
            default = None
        return JSONResponse(
            {
                "strategies": {
                    strategy.model_fields["strategy"].default: {
                        "description": inspect.getdoc(strategy),
                        "schema": strategy.model_json_schema(),
                    }
                    for strategy in STRATEGIES
                },
                "rewards": {
                    name: {"kind": kind, "default": name == default} for name, kind in state.loaded.kinds.items()
                },
                "guides": {name: {"kind": kind} for name, kind in state.loaded.models.policy.guides.items()},
                "limits": {
                    "guide_weight": GUIDE_WEIGHT,
                    "max_sequences": state.settings.max_sequences,
                    "max_queue": state.settings.max_queue,
                    "max_prompts": state.settings.max_prompts,
                    "max_candidates": state.settings.max_candidates,
                    "max_generated_tokens": state.settings.max_generated_tokens,
                    "request_timeout_s": state.settings.request_timeout_s,
                    "max_model_len": state.loaded.text.max_model_len,
                },
            }
        )

    return routes
