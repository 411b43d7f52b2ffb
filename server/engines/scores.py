"""What counts as a score when it comes from code that Decant did not write."""

import numbers
from collections.abc import Iterable, Mapping, Set

from decoders.errors import RewardFailed


def real(value: object) -> float:
    """Return a real number as a float: Python's, NumPy's, or a tensor of no dimensions. Raise `TypeError` otherwise.

    A truth value or a text that looks like a number is a mistake in what gave it, and not a score.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{short(value)} is not a number")
    return float(value)


def reals(values: object) -> list[float | None]:
    """Return `values` as floats, or None as it is, one for each completion, in order.

    Raise `RewardFailed` for anything else.
    """
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | Set):
        raise RewardFailed(f"gave {short(values)}, which is not a list of numbers")
    scores: list[float | None] = []
    for i, value in enumerate(values):
        try:
            scores.append(None if value is None else real(value))
        except (TypeError, OverflowError) as error:
            raise RewardFailed(f"the score of completion {i}: {error}") from error
    return scores


def short(value: object) -> str:
    """Return what a message shows of a value."""
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."
