"""/healthz (and /health), /readyz and /metrics: for those who run the server."""

from fastapi import APIRouter
from starlette.responses import Response

from server.http.json_response import json_response
from server.http.schemas.server_responses import Health, Readiness
from server.runtime.state import ServerState

READ = ["GET", "HEAD"]
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()

    @routes.api_route("/health", methods=READ)  # vLLM's name of it
    @routes.api_route("/healthz", methods=READ)
    async def healthz() -> Response:
        """Whether the process can still do its work: 503 asks for a restart."""
        up = state.loaded.up()
        return json_response(Health(engines=up), 200 if all(up.values()) else 503)

    @routes.api_route("/readyz", methods=READ)
    async def readyz() -> Response:
        """Whether to send requests here."""
        up = state.loaded.up()
        draining = state.admission.draining
        ready = all(up.values()) and not draining
        return json_response(Readiness(ready=ready, draining=draining, engines=up), 200 if ready else 503)

    @routes.api_route("/metrics", methods=READ)
    async def metrics() -> Response:
        return Response(state.metrics.page(), headers={"content-type": PROMETHEUS})

    return routes
