"""GET /healthz (and /health, /ping), /readyz, /version and /metrics: for load balancers, supervisors and Prometheus."""

from fastapi import APIRouter
from starlette.responses import Response

from server.http.json_response import json_response
from server.http.schemas.server_responses import Health, Readiness, Version
from server.installed import VERSION, engine
from server.runtime.state import ServerState

READ = ["GET", "HEAD"]
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


def router(state: ServerState, *, metrics: bool = True) -> APIRouter:
    """Return the routes, with `metrics` or without."""
    routes = APIRouter()

    @routes.api_route("/health", methods=READ)  # vLLM's name for it
    @routes.api_route("/healthz", methods=READ)
    async def healthz() -> Response:
        """Answer 503 if the server must be restarted."""
        up = state.loaded.up()
        return json_response(Health(engines=up), 200 if all(up.values()) else 503)

    @routes.api_route("/ping", methods=[*READ, "POST"])  # the same in vLLM's and SageMaker's words
    async def ping() -> Response:
        """Answer 503 if the server must be restarted, with an empty body."""
        return Response("", 200 if all(state.loaded.up().values()) else 503, media_type="text/plain")

    @routes.api_route("/version", methods=READ)
    async def version() -> Response:
        return json_response(Version(version=VERSION, engine=engine()))

    @routes.api_route("/readyz", methods=READ)
    async def readyz() -> Response:
        """Answer 503 if requests should go to another server."""
        up = await state.loaded.reachable()
        draining = state.admission.draining
        ready = all(up.values()) and not draining
        return json_response(Readiness(ready=ready, draining=draining, engines=up), 200 if ready else 503)

    async def page() -> Response:
        return Response(state.metrics.page(), headers={"content-type": PROMETHEUS})

    if metrics:
        routes.add_api_route("/metrics", page, methods=READ)
    return routes
