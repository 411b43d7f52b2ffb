"""GET /v1/reports/{id}: how an earlier answer was chosen."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.errors import UnknownReport
from server.http.auth import owner_of
from server.http.routes.operations import READ
from server.runtime.report_store import KEPT
from server.runtime.state import ServerState


def router(state: ServerState) -> APIRouter:
    """Return the route. It raises `UnknownReport`."""
    routes = APIRouter()

    @routes.api_route("/v1/reports/{answer}", methods=READ)
    async def reports(answer: str, request: Request) -> Response:
        report = state.reports.find(owner_of(request), answer)
        if report is None:
            raise UnknownReport(f"There is no report of '{answer}'. The last {KEPT} answers of each key have one.")
        return Response(report, media_type="application/json")

    return routes
