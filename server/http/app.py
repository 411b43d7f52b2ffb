"""The app factory. It takes the loaded models as an argument; there are no globals."""

from dataclasses import replace
from functools import partial
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from decoders.errors import DecantError
from server.errors import UnsupportedEndpoint
from server.http import auth
from server.http.base_app import App
from server.http.errors import error_response
from server.http.json_response import json_response
from server.http.routes import generate, models, operations, pooling, reports, rewards, tokenize
from server.http.schemas.server_responses import ErrorAnswer, ErrorDetail
from server.loading import Loaded
from server.runtime.key_ring import KeyRing
from server.runtime.outcomes import refusal
from server.runtime.presets import Presets
from server.runtime.state import ServerState
from server.settings import ServerSettings
from server.telemetry.spans import tracing
from server.telemetry.traced_models import traced


def create_app(
    loaded: Loaded,
    settings: ServerSettings | None = None,
    presets: Presets | None = None,
    *,
    answers_ids: bool = True,
) -> FastAPI:
    """Return the HTTP API over loaded models. Raises `SettingsError` for a key file that cannot be used.

    Args:
        answers_ids: Send `x-request-id`; the server that this app is a part of may do so itself.
    """
    settings = settings or ServerSettings()
    if tracing():
        loaded = replace(loaded, models=traced(loaded.models))
    state = ServerState(loaded, settings, presets=presets or Presets())
    moved = settings.operations_port is not None
    app = App(docs=settings.docs and not moved, answers_ids=answers_ids)
    app.state.server = state
    for route in (generate, rewards, pooling, reports, models, tokenize):
        app.include_router(route.router(state))
    app.include_router(operations.router(state, metrics=settings.metrics and not moved))
    app.add_exception_handler(DecantError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unforeseen)
    if settings.api_keys_file is not None:
        keys = KeyRing(settings.api_keys_file, state.metrics)
        app.add_middleware(auth.KeyGate, keys=keys, limiter=state.limiter, refused=partial(_count, state))
    if settings.cors_origins:  # outside of the gate: a browser's preflight request has no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    return app


def _count(state: ServerState, error: Exception) -> None:
    """Count a request that was refused before any work."""
    reason = refusal(error)
    if reason is not None:
        state.metrics.refused(reason)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer a request that a route refused before any work."""
    _count(request.app.state.server, error)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer starlette's own errors (no such path, wrong method) in OpenAI's format."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND and path.startswith("/v1/") and not path.startswith("/v1/models/"):
        served = ", ".join(sorted(_served(request.app)))
        return error_response(UnsupportedEndpoint(f"{request.method} {path} is not served here. These are: {served}."))
    message = f"{request.method} {request.url.path}: {error.detail}."
    detail = ErrorDetail(message=message, type="invalid_request_error", param=None, code=None)
    return json_response(ErrorAnswer(error=detail), error.status_code, error.headers)


def _served(app: FastAPI) -> set[str]:
    routes = (route for route in app.routes if isinstance(route, APIRoute))
    return {route.path_format for route in routes if route.path.startswith("/v1/")}


async def _left(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """End the request of a client that left before it had sent its body: that is no failure of the server."""
    return Response(status_code=400)


async def _unforeseen(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Answer an error that is a bug in OpenAI's format. Starlette raises it again, so that it is logged."""
    return error_response(error)
