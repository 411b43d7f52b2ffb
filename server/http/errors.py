"""The HTTP status and the body of each error, in OpenAI's shape. The only file that knows error status codes."""

from starlette.responses import Response

from decoders.errors import EngineDead, EngineFailed, InvalidRequest, RewardFailed, RewardTimeout
from server.errors import BodyTooLarge, Overloaded, RequestTimeout, Unauthorized, UnknownModel, UnsupportedEndpoint
from server.http.json_response import json_response
from server.http.schemas.server_responses import ErrorAnswer, ErrorDetail

ERRORS: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    # The class, its status, `type` and `code`. The first class that an error is an instance of counts.
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
    (Exception, 500, "server_error", "internal_error"),
)


def error_answer(error: Exception) -> ErrorAnswer:
    """Return the body of an error's response."""
    kind, _, type_, code = _entry(error)
    message = str(error)
    if kind is Exception:  # a bug: what it says belongs in the log, not before a client
        message = "The server failed on this request. Its log says why."
    param = error.field if isinstance(error, InvalidRequest) else "model" if kind is UnknownModel else None
    return ErrorAnswer(error=ErrorDetail(message=message, type=type_, param=param, code=code))


def error_response(error: Exception) -> Response:
    """Return the response to a request that failed with `error`."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(error_answer(error), _entry(error)[1], headers)


def _entry(error: Exception) -> tuple[type[Exception], int, str, str | None]:
    return next(entry for entry in ERRORS if isinstance(error, entry[0]))
