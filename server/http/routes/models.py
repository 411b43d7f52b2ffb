"""GET /v1/models and GET /v1/strategies: the served model, the strategies, rewards and guides, and the limits."""

import inspect
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from decoders import STRATEGIES
from decoders.base import Decoder
from decoders.errors import InvalidRequest
from decoders.models import MAX_GUIDE_WEIGHT
from server.http.json_response import json_response
from server.http.preset_choice import PresetChoice
from server.http.routes.operations import READ
from server.http.schemas.server_responses import (
    Limits,
    LoadedGuide,
    LoadedReward,
    ModelCard,
    ModelList,
    StrategyCard,
    StrategyList,
)
from server.runtime.state import ServerState


def router(state: ServerState) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    choice = PresetChoice(state.presets, state.model)
    cards = {card.id: card for card in model_cards(state)}

    @routes.api_route("/v1/models", methods=READ)
    async def models() -> Response:
        return json_response(ModelList(object="list", data=list(cards.values())))

    @routes.api_route("/v1/models/{name:path}", methods=READ)
    async def model(name: str) -> Response:
        choice.check_model(name)
        return json_response(cards[name])

    @routes.api_route("/v1/strategies", methods=READ)
    async def strategies() -> Response:
        try:
            default = next(iter(state.loaded.models.resolve_rewards(None)))
        except InvalidRequest:
            default = None
        answer = StrategyList(
            strategies=_strategies(),
            rewards={name: LoadedReward(kind=k, default=name == default) for name, k in state.loaded.kinds.items()},
            guides={name: LoadedGuide(kind=kind) for name, kind in state.loaded.models.policy.guides.items()},
            limits=_limits(state),
        )
        return json_response(answer)

    return routes


def model_cards(state: ServerState) -> list[ModelCard]:
    """Return the cards of the policy and of each preset."""
    policy = state.model
    common: dict[str, Any] = {
        "object": "model",
        "created": state.created,
        "owned_by": "decant",
        "root": policy,
        "max_model_len": state.loaded.text.max_model_len,
    }
    choice = PresetChoice(state.presets, policy)
    presets = [
        ModelCard(
            id=choice.model(name),
            parent=policy,
            decoding=state.presets.decoding(name),
            law=_law(strategy),
            **common,
        )
        for name, strategy in state.presets.named.items()
    ]
    return [ModelCard(id=policy, parent=None, **common), *presets]


def _law(strategy: Decoder) -> str:
    """Return what the strategy's description says from its law on."""
    text = inspect.getdoc(strategy) or ""
    return text[text.index("\nLaw") + 1 :]


def _strategies() -> dict[str, StrategyCard]:
    return {
        strategy.model_fields["strategy"].default: StrategyCard(
            description=inspect.getdoc(strategy) or "", schema=_object_schema(strategy)
        )
        for strategy in STRATEGIES
    }


def _limits(state: ServerState) -> Limits:
    settings = state.settings
    return Limits(
        guide_weight=MAX_GUIDE_WEIGHT,
        max_sequences=settings.max_sequences,
        max_queue=settings.max_queue,
        max_prompts=settings.max_prompts,
        max_candidates=settings.max_candidates,
        max_generated_tokens=settings.max_generated_tokens,
        request_timeout_s=settings.request_timeout_s,
        max_model_len=state.loaded.text.max_model_len,
    )


def _object_schema(strategy: type[Decoder]) -> dict[str, Any]:
    """Return the strategy's JSON schema as an object's, also where it refers to itself, as best-of-N's proposal may."""
    schema = strategy.model_json_schema()
    own = schema.pop("$ref", None)
    return schema if own is None else {**schema["$defs"][own.rpartition("/")[2]], **schema}
