"""What the service itself refuses, as types: not what is asked, but who asks, when, or how much at once.

ServiceError
├── Unauthorized
├── UnknownModel
├── UnsupportedEndpoint
├── BodyTooLarge
├── Overloaded
└── RequestTimeout
"""

from decoders.errors import DecantError


class ServiceError(DecantError):
    """What the service itself refuses: not what is asked, but who, when, or how much of it at once."""


class Unauthorized(ServiceError):
    """No key, or a wrong one."""


class UnknownModel(ServiceError):
    """A model that is not served here."""


class UnsupportedEndpoint(ServiceError):
    """An endpoint of OpenAI's or another's that is not served here.

    A 400 and no 404: a router that spreads requests over servers takes a 404 for a server that has lost its model, and
    sends it no more for a while (LiteLLM's does).
    """


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
