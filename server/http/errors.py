"""The HTTP status and the body of each error, in OpenAI's shape. The only file that knows error status codes."""

from typing import NamedTuple

from starlette.responses import Response

from decoders.errors import EngineDead, EngineFailed, InvalidRequest, RewardFailed, RewardTimeout
from server.errors import (
    BodyTooLarge,
    Overloaded,
    RateLimited,
    RequestTimeout,
    StrategyNotAllowed,
    Unauthorized,
    UnknownHost,
    UnknownModel,
    UnknownReport,
    UnsupportedEndpoint,
    UnsupportedMediaType,
)
from server.http.json_response import json_response
from server.http.schemas.server_responses import ErrorAnswer, ErrorDetail
from server.telemetry.request_info import request_info


class ErrorKind(NamedTuple):
    """How a class of errors is sent to clients."""

    error: type[Exception]
    status: int
    type: str
    code: str | None
    when: str


LONGEST = 8192  # characters of an error's message
INVALID, SERVER = "invalid_request_error", "server_error"
ERRORS = (  # the first class that an error is an instance of counts
    ErrorKind(InvalidRequest, 400, INVALID, None, "The request cannot be honoured; `param` names the field."),
    ErrorKind(Unauthorized, 401, "authentication_error", "invalid_api_key", "The key is missing, unknown or expired."),
    ErrorKind(StrategyNotAllowed, 403, INVALID, "strategy_not_allowed", "The key is not for the strategy at `param`."),
    ErrorKind(RateLimited, 429, "rate_limit_error", "rate_limit_exceeded", "The key's limits leave no room now."),
    ErrorKind(UnknownHost, 421, INVALID, "host_not_allowed", "The `Host` is none of `server.allowed_hosts`."),
    ErrorKind(UnknownModel, 404, INVALID, "model_not_found", "Another model is served; `param` is `model`."),
    ErrorKind(UnknownReport, 404, INVALID, "report_not_found", "The answer has no report, or another key's."),
    ErrorKind(UnsupportedEndpoint, 400, INVALID, "unsupported_endpoint", "No such endpoint under /v1/."),
    ErrorKind(BodyTooLarge, 413, INVALID, "body_too_large", "The body is over `server.body_limits.max_bytes`."),
    ErrorKind(
        UnsupportedMediaType, 415, INVALID, "unsupported_media_type", "The `Content-Type` is not `application/json`."
    ),
    ErrorKind(Overloaded, 503, "overloaded_error", "overloaded", "The queue is full, or the server shuts down."),
    ErrorKind(RequestTimeout, 504, "timeout_error", "request_timeout", "It took over `server.request_timeout_s`."),
    ErrorKind(RewardTimeout, 504, "timeout_error", "reward_timeout", "A reward took over its `timeout_s`."),
    ErrorKind(RewardFailed, 502, SERVER, "reward_failed", "A reward failed; the message says which, the log why."),
    ErrorKind(EngineDead, 503, SERVER, "engine_dead", "An engine has died, and the server ends."),
    ErrorKind(EngineFailed, 500, SERVER, "engine_failed", "The engine lost this request; others go on."),
    ErrorKind(Exception, 500, SERVER, "internal_error", "The server has a bug; its log has the traceback."),
)


def error_answer(error: Exception) -> ErrorAnswer:
    """Return the body of an error's response, and note the error as what ended the request."""
    request_info().error = type(error).__name__
    kind = _kind(error)
    message = str(error)
    if isinstance(error, RewardFailed):
        message = error.public or "A reward failed. The server's log says why."
    if kind.error is Exception:  # a bug: what it says belongs in the log, not before a client
        message = "The server failed on this request. Its log says why."
    param = (
        error.field
        if isinstance(error, InvalidRequest | StrategyNotAllowed)
        else "model"
        if kind.error is UnknownModel
        else None
    )
    detail = ErrorDetail(message=_short(message), type=kind.type, param=param and _short(param), code=kind.code)
    return ErrorAnswer(error=detail)


def _short(text: str) -> str:
    """Return a text that may quote what the client sent, without its middle if it is long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def error_response(error: Exception) -> Response:
    """Return the response to a request that failed with `error`."""
    headers = {}
    if isinstance(error, Overloaded | RateLimited):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(error_answer(error), _kind(error).status, headers)


def _kind(error: Exception) -> ErrorKind:
    return next(kind for kind in ERRORS if isinstance(error, kind.error))
