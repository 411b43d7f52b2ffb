"""Which values count as rewards when they come from code that Decant did not write."""

import numbers
from collections.abc import Iterable, Mapping, Set

from decoders.errors import RewardFailed

MAX_SHOWN = 100  # characters of a value in a message


def as_reward(value: object) -> float:
    """Return a real number as a float: Python's, NumPy's, or a tensor of no dimensions.

    Raises `TypeError` otherwise: a truth value, or a text that looks like a number, is a mistake in its source.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{shortened(value)} is not a number")
    return float(value)


def as_rewards(values: object) -> list[float | None]:
    """Return `values`, one for each completion, as floats or None. Raises `RewardFailed` for anything else."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | Set):
        message = f"gave {shortened(values)}, which is not a list of numbers"
        raise RewardFailed(message, public="it gave something else than a list of numbers")
    rewards: list[float | None] = []
    for i, value in enumerate(values):
        try:
            rewards.append(None if value is None else as_reward(value))
        except (TypeError, OverflowError) as error:
            raise RewardFailed(
                f"the score of completion {i}: {error}", public=f"the score of completion {i} is not a number"
            ) from error
    return rewards


def shortened(value: object) -> str:
    """Return what a message shows of a value."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
