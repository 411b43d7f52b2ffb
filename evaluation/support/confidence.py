"""How sure a mean over prompts is."""

import math
from collections.abc import Sequence
from statistics import stdev

from scipy.stats import t as student


def half_interval(values: Sequence[float]) -> float:
    """Return half the width of the 95% confidence interval of the mean of `values`, by Student's t."""
    return float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
