"""The logarithm of rejection sampling's acceptance rate, estimated from one run.

A draw is accepted with mean probability p, and the run ends at the n-th acceptance, at draw K. Acceptances divided by
draws would be biased, since the run stops at a success. With psi the digamma function

    E[ psi(n) - psi(K) ] = log p,   psi(n) - psi(K) = -sum_{j=n}^{K-1} 1/j

is unbiased: P(K > j) = P(Binomial(j, p) < n), and its derivatives by p add up to those of -log p.

Draws come in batches, and the last batch is drawn to its end. The mean of the above over all orders of that batch, and
over all coins that end the run in it, has the same expectation and a smaller variance [Rao and Blackwell].
"""

import math
from collections.abc import Sequence
from itertools import accumulate


def log_rate(n: int, drawn: int, accepted: int, last: Sequence[float]) -> float:
    """Return an unbiased estimate of log p from a run that accepted `n` draws.

    Args:
        n: Acceptances that ended the run.
        drawn: Draws before the last batch.
        accepted: Acceptances among these, fewer than `n`.
        last: The probability with which each draw of the last batch was to be accepted.
    """
    places = _place(n - accepted, last)
    beyond = [1.0 - mass for mass in accumulate(places)]  # P(K > drawn + i) for i = 1, 2, ...
    certain = math.fsum(1 / j for j in range(n, drawn + 1))
    return -certain - math.fsum(late / (drawn + i) for i, late in enumerate(beyond, 1) if drawn + i >= n)


def _place(r: int, chances: Sequence[float]) -> list[float]:
    """Return P(the r-th success is the k-th of the batch, in any order), k = 1, 2, ..., given that there are r."""
    size = len(chances)
    counts = _successes(chances)
    mass = math.fsum(counts[r:])
    places = [0.0] * size
    for c in range(r, size + 1):
        # Of c successes among `size` places, the r-th is at place k: negative hypergeometric, by recurrence from k = r.
        p = math.prod((c - i) / (size - i) for i in range(r)) * (counts[c] / mass)
        for k in range(r, size - c + r + 1):
            places[k - 1] += p
            p *= k / (k - r + 1) * (size - k - c + r) / (size - k) if k < size else 0.0
    return places


def _successes(chances: Sequence[float]) -> list[float]:
    """Return P(c of these independent events come true), c = 0, 1, ... [Poisson binomial]."""
    counts = [1.0]
    for p in chances:
        counts = [a * (1 - p) + b * p for a, b in zip([*counts, 0.0], [0.0, *counts], strict=True)]
    return counts
