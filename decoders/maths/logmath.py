"""Log-weights, order statistics and divergences: the arithmetic under every strategy. Logarithms are natural."""

import math
from collections.abc import Sequence

INF = math.inf


def logsumexp(values: Sequence[float]) -> float:
    """Return log sum_i exp(values[i]); -inf for no values."""
    top = max(values, default=-INF)
    if top == -INF:
        return -INF
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def scaled(rewards: Sequence[float], beta: float) -> list[float]:
    """Return (r_i - max r) / beta, the log-weights r_i / beta up to a constant.

    The difference is taken before the division, so that nothing overflows.
    """
    best = max(rewards, default=0.0)
    return [0.0 if r == best else (r - best) / beta for r in rewards]


def total(terms: Sequence[float]) -> float:
    """Return the sum of finite terms, rounded once; NaN where it is beyond the largest double."""
    try:
        return math.fsum(terms)
    except OverflowError:  # a partial sum may be too large where the sum is not
        try:
            return math.ldexp(math.fsum(math.ldexp(term, -32) for term in terms), 32)
        except OverflowError:
            return math.nan


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one finite value, which never overflows."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.ldexp(math.fsum(math.ldexp(value, -32) for value in values) / len(values), 32)


def normalise(log_weights: Sequence[float]) -> list[float]:
    """Return probabilities proportional to exp(log_weights)."""
    z = logsumexp(log_weights)
    return [math.exp(v - z) for v in log_weights]


def pessimistic_root(rewards: Sequence[float], beta: float) -> float:
    """Return the lam with mean_i relu((r_i - lam) / beta) = 1 [Huang et al. 2025, Inference-Time Pessimism].

    The mean is piecewise linear and falling in lam: with the k best rewards above it, lam is
    (r_1 + ... + r_k - n beta) / k, and the right k is the first whose lam is at least the next reward.
    """
    ranked = sorted(rewards, reverse=True)
    above = 0.0
    lam = -INF
    for k, reward in enumerate(ranked, 1):
        above += reward
        lam = (above - len(ranked) * beta) / k
        if k == len(ranked) or lam >= ranked[k]:
            break
    return lam


def poisson_log_pmf(mean: float, tail: float = 1e-12) -> list[float]:
    """Return log P(k) of a Poisson law for k = 0, 1, ... until less than `tail` of its mass is left."""
    if mean == 0:
        return [0.0]
    pmf = [-mean]
    left = -math.expm1(-mean)
    while left > tail:
        pmf.append(pmf[-1] + math.log(mean) - math.log(len(pmf)))
        left -= math.exp(pmf[-1])
    return pmf


def best_of_n_kl(n: int) -> float:
    """Return log n - (n-1)/n, in nats: KL(best of n || policy) for a continuous reward, else an upper bound.

    [Beirami et al. 2024]
    """
    return math.log(n) - (n - 1) / n


def ranked_kl(n: int, rank: int) -> float:
    """Return KL(the rank-th best of n || policy), in nats, for a continuous reward, else an upper bound.

    The quantile of the rank-th best of n is Beta(n - rank + 1, rank), and KL to uniform is minus its entropy.
    """
    a, b = n - rank + 1, rank
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(n + 1)

    def psi(k: int) -> float:  # digamma without Euler's constant, which cancels
        return math.fsum(1 / i for i in range(1, k))

    return max(0.0, -log_beta + (a - 1) * psi(a) + (b - 1) * psi(b) - (n - 1) * psi(n + 1))


def atomic_kl(n: int, logprob: float) -> float:
    """Return the estimate of KL(best of n || policy), in nats, that allows for atoms [Beirami et al. 2024].

    `logprob` is log pi(selected | x). The estimate is exact where the selected outcome is the best, an atom, and all
    others are continuous; its mean is a little above. It is above `best_of_n_kl` by no more than rounding.
    """
    if logprob >= 0.0:
        return 0.0
    # log(1 - e), from the end that keeps its digits
    log_miss = math.log1p(-math.exp(logprob)) if logprob < -1.0 else math.log(-math.expm1(logprob))
    miss = math.exp(n * log_miss)  # P(the selected outcome is in none of n draws)
    hit = -math.expm1(n * log_miss)
    if hit == 0.0:
        return best_of_n_kl(n)
    return miss * (math.log(n) + (n - 1) * log_miss - (n - 1) / n) + hit * (math.log(hit) - logprob)


def selection_kl(probabilities: Sequence[float], n: int) -> float:
    """Return sum_i p_i log(n p_i), in nats, for a choice among n policy samples with probabilities p.

    Its mean bounds KL(chosen || policy): the samples and the index together are this far from policy samples
    and a uniform index, under which the chosen sample is a policy sample; forgetting the rest can only lose.
    """
    return math.fsum(p * math.log(n * p) for p in probabilities if p > 0)
