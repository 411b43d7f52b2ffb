"""Errors of the server itself, as types: the client, the time or the load is the reason, not the request's fields.

ServiceError
├── Unauthorized
├── StrategyNotAllowed
├── RateLimited
├── UnknownHost
├── UnknownModel
├── UnknownReport
├── UnsupportedEndpoint
├── BodyTooLarge
├── UnsupportedMediaType
├── Overloaded
└── RequestTimeout
"""

import math

from decoders.errors import DecantError


class ServiceError(DecantError):
    """The root of the server's own errors."""


class Unauthorized(ServiceError):
    """The key is missing, unknown or expired."""


class StrategyNotAllowed(ServiceError):
    """The key is not for this strategy; `field` is the one that asks for it, if there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RateLimited(ServiceError):
    """The key's limits leave no room for the request now; there is room in `seconds`, as far as that is known."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.retry_after = max(1, math.ceil(seconds))


class UnknownHost(ServiceError):
    """The request is for a host of another name."""


class UnknownModel(ServiceError):
    """The request names a model that is not served here."""


class UnknownReport(ServiceError):
    """No answer with this id has a report here, or another key asked for it."""


class UnsupportedEndpoint(ServiceError):
    """An endpoint, of OpenAI's API or another, that is not served here.

    It is a 400 because routers such as LiteLLM's take a 404 for a server that has lost its model, and send it no
    requests for a while.
    """


class BodyTooLarge(ServiceError):
    """The body has more bytes than this server reads."""


class UnsupportedMediaType(ServiceError):
    """The body is not declared to be JSON."""


class Overloaded(ServiceError):
    """There is no place for the request now; there may be one in `retry_after` seconds.

    Args:
        reason: `queue_full`, `wait_too_long` or `draining`.
    """

    def __init__(self, message: str, reason: str, retry_after: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class RequestTimeout(ServiceError):
    """The request took longer than the server allows."""
