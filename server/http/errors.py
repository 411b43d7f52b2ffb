"""What each error is over HTTP, in OpenAI's shape. The only file that knows status codes.

{"error": {"message": ..., "type": ..., "param": the field or null, "code": ... or null}}
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json
from starlette.responses import Response

from decoders.errors import EngineDead, EngineFailed, InvalidRequest, RewardFailed, RewardTimeout
from server.errors import BodyTooLarge, Overloaded, RequestTimeout, Unauthorized, UnknownModel, UnsupportedEndpoint

# The first class that an error is an instance of: status, type, code.
TAGS = ("strategy", "by", "kind")  # the fields that say which member of a union an object is
_STATUS: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    (InvalidRequest, 400, "invalid_request_error", None),
    (Unauthorized, 401, "authentication_error", "invalid_api_key"),
    (UnknownModel, 404, "invalid_request_error", "model_not_found"),
    (UnsupportedEndpoint, 400, "invalid_request_error", "unsupported_endpoint"),
    (BodyTooLarge, 413, "invalid_request_error", "body_too_large"),
    (Overloaded, 503, "overloaded_error", "overloaded"),
    (RequestTimeout, 504, "timeout_error", "request_timeout"),
    (RewardTimeout, 504, "timeout_error", "reward_timeout"),
    (RewardFailed, 502, "server_error", "reward_failed"),
    (EngineDead, 503, "server_error", "engine_dead"),
    (EngineFailed, 500, "server_error", "engine_failed"),
)


def status(error: Exception) -> int:
    return next((code for kind, code, _, _ in _STATUS if isinstance(error, kind)), 500)


def payload(error: Exception) -> dict[str, Any]:
    """The body of an error response."""
    for kind, _, type_, code in _STATUS:
        if isinstance(error, kind):
            param = error.field if isinstance(error, InvalidRequest) else "model" if kind is UnknownModel else None
            return {"error": {"message": str(error), "type": type_, "param": param, "code": code}}
    # What nobody foresaw goes to the log, not to the client.
    message = "The server failed on this request. Its log says why."
    return {"error": {"message": message, "type": "server_error", "param": None, "code": "internal_error"}}


def response(error: Exception) -> Response:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(to_json(payload(error)), status(error), headers, "application/json")


def invalid(error: ValidationError, body: object) -> InvalidRequest:
    """Pydantic's findings as one error that names the field of the first, as the client knows it.

    Against a union, a value is found wanting once by each member: what counts is the finding that went deepest, since
    that member is the one that was meant.
    """
    findings = [(_path(finding, body), finding) for finding in error.errors(include_url=False)]
    start = findings[0][0]
    path = max((path for path, _ in findings if path[: len(start)] == start), key=len)
    here = [finding for other, finding in findings if other == path]
    here = [finding for finding in here if not finding["type"].endswith("_type")] or here
    first, *others = dict.fromkeys(_message(finding) for finding in here)
    message = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    if not path:
        return InvalidRequest(f"The body: {message}.")
    field = ".".join(path)
    return InvalidRequest(f"{field or repr(field)}: {message}.", field)  # a field's name may be empty, too


def _message(finding: ErrorDetails) -> str:
    match finding["type"]:
        case "extra_forbidden":
            return "There is no such field"
        case "union_tag_not_found":
            return "Field required"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "Input should be a JSON object"
    return finding["msg"].removeprefix("Value error, ")


def _path(finding: ErrorDetails, body: object) -> tuple[str, ...]:
    """Where it is in the body, without the names of union members that pydantic puts between the fields."""
    path: list[str] = []
    here = body
    entered = False  # an object of a union, whose member's name comes next, and may be that of a field too
    for i, part in enumerate(finding["loc"]):
        if entered and isinstance(here, Mapping) and part in (here.get(tag) for tag in TAGS):
            entered = False
            continue
        entered = isinstance(part, str) and isinstance(here, Mapping) and isinstance(here.get(part), Mapping)
        lacks = finding["type"] == "missing" and i == len(finding["loc"]) - 1
        if isinstance(here, Mapping) and (part in here or lacks):
            path.append(str(part))
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            path.append(str(part))
            here = here[part]
    if finding["type"].startswith("union_tag_"):
        path.append(str(finding["ctx"]["discriminator"]).strip("'"))
    return tuple(path)
