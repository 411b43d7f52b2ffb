"""A typed answer as an HTTP response."""

from collections.abc import Mapping

from starlette.responses import Response

from server.http.schemas.response_model import ResponseModel


def json_response(answer: ResponseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with the answer's JSON as its body."""
    return Response(answer.to_json(), status, headers, "application/json")
