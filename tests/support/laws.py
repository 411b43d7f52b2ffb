"""The laws that strategies promise, on a finite space: written from the papers, and sharing no code with decoders.

A law is a dict from outcome to probability; `r` gives each outcome's reward.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

Y = TypeVar("Y", bound=Hashable)
Weigh = Callable[[Sequence[float]], Sequence[float]]


def order_statistic(pi: Mapping[Y, float], r: Mapping[Y, float], n: int) -> dict[Y, float]:
    """Return the law of the best of n, ties broken at random [BOND, theorem 1]; the worst of n is that of -r."""
    law = {}
    for y, p in pi.items():
        less = math.fsum(q for z, q in pi.items() if r[z] < r[y])
        at_most = math.fsum(q for z, q in pi.items() if r[z] <= r[y])
        law[y] = p * at_most ** (n - 1) * math.fsum((less / at_most) ** i for i in range(n))
    return law


def by(r: Mapping[Y, float], weigh: Weigh) -> Callable[[tuple[Y, ...]], Sequence[float]]:
    """Return the rule that weighs outcomes by their rewards."""
    return lambda ys: weigh([r[y] for y in ys])


def negated(r: Mapping[Y, float]) -> dict[Y, float]:
    return {y: -v for y, v in r.items()}


def tilted(pi: Mapping[Y, float], r: Mapping[Y, float], beta: float) -> dict[Y, float]:
    """Return pi*(y) = pi(y) exp(r(y) / beta) / Z."""
    weights = {y: p * math.exp(r[y] / beta) for y, p in pi.items()}
    z = math.fsum(weights.values())
    return {y: w / z for y, w in weights.items()}


def greatest(rewards: Sequence[float]) -> list[float]:
    return [float(v == max(rewards)) for v in rewards]


def least(rewards: Sequence[float]) -> list[float]:
    return [float(v == min(rewards)) for v in rewards]


def boltzmann(beta: float) -> Weigh:
    return lambda rewards: [math.exp(v / beta) for v in rewards]


def pessimistic(beta: float) -> Weigh:
    def weigh(rewards: Sequence[float]) -> list[float]:
        lam = bisect_pessimistic(rewards, beta)
        return [max(0.0, (v - lam) / beta) for v in rewards]

    return weigh


def bisect_pessimistic(rewards: Sequence[float], beta: float) -> float:
    """Return the lam at which the mean of relu((r - lam) / beta) is one, by bisection."""
    low, high = min(rewards) - beta, max(rewards)
    for _ in range(200):
        lam = (low + high) / 2
        if math.fsum(max(0.0, v - lam) for v in rewards) > beta * len(rewards):
            low = lam
        else:
            high = lam
    return (low + high) / 2


def pools(pi: Mapping[Y, float], n: int) -> list[tuple[tuple[Y, ...], float]]:
    """Return every sequence of n draws from pi, with its probability."""
    return [(ys, math.prod(pi[y] for y in ys)) for ys in itertools.product(pi, repeat=n)]


def chosen(pi: Mapping[Y, float], n: int, judge: Callable[[tuple[Y, ...]], Sequence[float]]) -> dict[Y, float]:
    """Return the law of one of n draws, chosen with P(i) proportional to judge(draws)[i]; none if all are zero."""
    law: defaultdict[Y, float] = defaultdict(float)
    for ys, p in pools(pi, n):
        weights = judge(ys)
        z = math.fsum(weights)
        for y, w in zip(ys, weights, strict=True):
            law[y] += p * w / z if z > 0 else 0.0
    return {y: p for y, p in law.items() if p > 0}


def chosen_in_turn(
    pi: Mapping[Y, float], r: Mapping[Y, float], n: int, results: int, weigh: Weigh
) -> dict[tuple[Y, ...], float]:
    """Return the law of `results` of n draws, chosen one after another by the same rule without replacement."""
    law: defaultdict[tuple[Y, ...], float] = defaultdict(float)
    for ys, p in pools(pi, n):
        for order in itertools.permutations(range(n), results):
            left, q = list(range(n)), p
            for i in order:
                weights = weigh([r[ys[j]] for j in left])
                q *= weights[left.index(i)] / math.fsum(weights)
                left.remove(i)
            law[tuple(ys[i] for i in order)] += q
    return {ys: p for ys, p in law.items() if p > 0}


def drawn(rewards: Sequence[float], batch: int, at: float) -> int:
    """Return the number of draws, `batch` at a time, until one is at least `at` or none are left."""
    seen = batch
    while seen < len(rewards) and max(rewards[:seen]) < at:
        seen += batch
    return min(seen, len(rewards))


def stopped(batch: int, at: float, weigh: Weigh) -> Weigh:
    """Return the rule restricted to the draws before stopping."""

    def rule(rewards: Sequence[float]) -> list[float]:
        seen = drawn(rewards, batch, at)
        return [*weigh(rewards[:seen]), *[0.0] * (len(rewards) - seen)]

    return rule


def without(rule: Weigh) -> Weigh:
    """Return the rule restricted to finite rewards: the others get no weight."""

    def on_the_finite(rewards: Sequence[float]) -> list[float]:
        finite = [v for v in rewards if math.isfinite(v)]
        weights = iter(rule(finite) if finite else [])
        return [next(weights) if math.isfinite(v) else 0.0 for v in rewards]

    return on_the_finite


def quantile(value: float, others: Sequence[float]) -> float:
    """Return P(value > other) + P(tie) / 2, by its definition."""
    return math.fsum((value > v) + (value == v) / 2 for v in others) / len(others)


def atomic(n: int, e: float) -> float:
    """Return KL(best of n || pi) if the best outcome has mass e and the rest is continuous [Beirami et al. 2024]."""
    out, hit = (1 - e) ** n, 1 - (1 - e) ** n
    return out * (math.log(n) + (n - 1) * math.log(1 - e) - (n - 1) / n) + hit * math.log(hit / e)


def kl(p: Mapping[Y, float], q: Mapping[Y, float]) -> float:
    return math.fsum(v * math.log(v / q[y]) for y, v in p.items() if v > 0)


def total_variation(p: Mapping[Y, float], q: Mapping[Y, float]) -> float:
    return math.fsum(abs(p.get(y, 0.0) - q.get(y, 0.0)) for y in {**p, **q}) / 2


def win_rate(p: Mapping[Y, float], q: Mapping[Y, float], r: Mapping[Y, float]) -> float:
    """Return P(r(Y) > r(Z)) + P(tie) / 2 for Y ~ p and Z ~ q."""
    return math.fsum(a * b * ((r[y] > r[z]) + (r[y] == r[z]) / 2) for y, a in p.items() for z, b in q.items())


def win_rate_bound(n: int) -> float:
    """Return n/(n+1): P(best of n beats one policy sample) for a continuous reward, else an upper bound."""
    return n / (n + 1)
