"""The result of a measurement: a ratio over turns, and what it should be."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class SpeedRatio(NamedTuple):
    """`ratio` is the median over turns, `spread` their interquartile range, `aim` the goal in words."""

    label: str
    ratio: float
    spread: float
    aim: str


def summarise(label: str, ratios: Sequence[float], aim: str) -> SpeedRatio:
    """Return the median and spread of the `ratios` of all turns."""
    low, _, high = statistics.quantiles(ratios, n=4)
    return SpeedRatio(label, statistics.median(ratios), high - low, aim)
