"""What a measurement says: a ratio over turns, and what it should be."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """`ratio` is the median over turns, `spread` the interquartile range."""

    label: str
    ratio: float
    spread: float
    aim: str


def row(label: str, ratios: Sequence[float], aim: str) -> Row:
    low, _, high = statistics.quantiles(ratios, n=4)
    return Row(label, statistics.median(ratios), high - low, aim)
