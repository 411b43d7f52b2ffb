"""What each error is over HTTP, in OpenAI's shape. The only file that knows status codes.

{"error": {"message": ..., "type": ..., "param": the field or null, "code": ... or null}}
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from decoders.errors import DecantError, EngineDead, EngineFailed, InvalidRequest, RewardFailed, RewardTimeout


class ServiceError(DecantError):
    """What the service itself refuses: not what is asked, but who, when, or how much of it at once."""


class Unauthorized(ServiceError):
    """No key, or a wrong one."""


class UnknownModel(ServiceError):
    """A model that is not served here."""


class BodyTooLarge(ServiceError):
    """More bytes than any prompt needs."""


class Overloaded(ServiceError):
    """No place now; `retry_after` seconds may bring one."""

    def __init__(self, message: str, reason: str, retry_after: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class RequestTimeout(ServiceError):
    """The request took longer than the server allows."""


# The first class that an error is an instance of: status, type, code.
_STATUS: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    (InvalidRequest, 400, "invalid_request_error", None),
    (Unauthorized, 401, "authentication_error", "invalid_api_key"),
    (UnknownModel, 404, "invalid_request_error", "model_not_found"),
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
    """Pydantic's findings as one error that names the field of the first, as the client knows it."""
    first = error.errors(include_url=False)[0]
    field = _field(first["loc"], body)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "There is no such field"
    if first["type"] == "union_tag_invalid":
        field = ".".join(filter(None, (field, str(first.get("ctx", {}).get("discriminator", "")).strip("'"))))
    return InvalidRequest(f"{field}: {message}." if field else f"{message}.", field)


def _field(loc: tuple[int | str, ...], body: object) -> str | None:
    """The dotted path, without the names of union members that pydantic puts between the fields."""
    path: list[str] = []
    here = body
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(here, Mapping) and (part in here or (last and not _is_member(part, here))):
            path.append(str(part))
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            path.append(str(part))
            here = here[part]
    return ".".join(path) or None


def _is_member(part: object, here: Mapping[Any, Any]) -> bool:
    """Whether a last part that the body lacks is a union member's name, and not a missing field."""
    text = str(part)
    return text in here.values() or any(mark in text for mark in "[](,")
