"""What an error means for the metrics and the log, by its type."""

from decoders.errors import EngineDead, InvalidRequest, RewardFailed, RewardTimeout
from server.errors import (
    BodyTooLarge,
    Overloaded,
    RateLimited,
    RequestTimeout,
    StrategyNotAllowed,
    Unauthorized,
    UnknownModel,
)

FORESEEN = (RewardFailed, RequestTimeout, EngineDead)  # failures that are explained by their message alone


def outcome(error: Exception) -> str:
    """Return the `outcome` label of a request that ended with `error`."""
    if isinstance(error, InvalidRequest):
        return "invalid"
    if isinstance(error, Overloaded | RateLimited):
        return "refused"
    return "timeout" if isinstance(error, RequestTimeout | RewardTimeout) else "failed"


def refusal(error: Exception) -> str | None:
    """Return the `reason` label of a request that was turned away with `error`, or None if `error` is a failure."""
    match error:
        case InvalidRequest() | BodyTooLarge():
            return "invalid"
        case UnknownModel():
            return "unknown_model"
        case Unauthorized():
            return "unauthorized"
        case StrategyNotAllowed():
            return "strategy_not_allowed"
        case RateLimited():
            return "rate_limited"
        case Overloaded():
            return error.reason
        case EngineDead():
            return "engine_dead"
    return None
