"""The arithmetic under the strategies, against quadrature, scipy and brute force."""

import math
from collections.abc import Callable

import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from decoders.core import EMPTY
from decoders.events import ScoredCandidate
from decoders.maths.logmath import (
    atomic_kl,
    best_of_n_kl,
    logsumexp,
    normalise,
    pessimistic_root,
    poisson_log_pmf,
    ranked_kl,
    selection_kl,
)
from decoders.parts.objective import Objective
from tests.support import laws

INF, NAN = math.inf, math.nan
numbers = st.floats(-50, 50)
betas = st.floats(1e-3, 1e3)
counts = st.integers(1, 256)


def divergence_to_uniform(density: Callable[[float], float], upto: float = 1.0) -> float:
    """Return the integral of f log f over [0, upto]."""

    def term(u: float) -> float:
        f = density(u)
        return f * math.log(f) if f > 0 else 0.0

    return float(scipy.integrate.quad(term, 0, upto, epsabs=1e-12, limit=200)[0])


@given(st.lists(numbers, min_size=1))
def test_logsumexp_is_its_definition(values: list[float]) -> None:
    assert logsumexp(values) == pytest.approx(math.log(math.fsum(map(math.exp, values))), abs=1e-12)


def test_logsumexp_at_the_ends() -> None:
    assert logsumexp([]) == logsumexp([-INF, -INF]) == -INF
    assert logsumexp([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert logsumexp([-1000.0, -INF]) == -1000


@given(st.lists(numbers | st.just(-INF), min_size=1).filter(lambda v: max(v) > -INF), st.floats(-700, 700))
def test_normalise_gives_probabilities_and_forgets_a_constant(values: list[float], constant: float) -> None:
    p = normalise(values)
    assert math.fsum(p) == pytest.approx(1)
    assert p == pytest.approx(normalise([v + constant for v in values]), abs=1e-9)
    z = math.fsum(map(math.exp, values))
    assert p == pytest.approx([math.exp(v) / z for v in values])


@given(st.lists(st.integers(-5, 5).map(float) | numbers, min_size=1, max_size=10), betas)
def test_pessimistic_root_is_the_bisected_one(rewards: list[float], beta: float) -> None:
    lam = pessimistic_root(rewards, beta)
    assert lam == pytest.approx(laws.bisect_pessimistic(rewards, beta), abs=1e-9)
    assert math.fsum(max(0.0, r - lam) / beta for r in rewards) / len(rewards) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("mean", [0.5, 1, 7, 63, 255])
def test_poisson_is_scipys_up_to_its_tail(mean: float) -> None:
    have = [math.exp(v) for v in poisson_log_pmf(mean)]
    assert have == pytest.approx(list(scipy.stats.poisson.pmf(range(len(have)), mean)), abs=1e-13)
    assert scipy.stats.poisson.sf(len(have) - 1, mean) < 2e-12
    assert scipy.stats.poisson.sf(len(have) - 3, mean) > 1e-13, "no longer than it need be"
    assert poisson_log_pmf(0) == [0.0]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 64])
def test_best_of_n_kl_is_that_of_the_greatest_quantile(n: int) -> None:
    assert best_of_n_kl(n) == pytest.approx(divergence_to_uniform(lambda u: n * u ** (n - 1)), abs=1e-9)


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 2), (3, 2), (5, 1), (5, 2), (5, 5), (16, 3), (256, 100)])
def test_ranked_kl_is_that_of_a_beta_quantile(n: int, rank: int) -> None:
    beta = scipy.stats.beta(n - rank + 1, rank)
    assert ranked_kl(n, rank) == pytest.approx(-float(beta.entropy()), abs=1e-9)
    assert ranked_kl(n, rank) == pytest.approx(divergence_to_uniform(lambda u: float(beta.pdf(u))), abs=1e-7)


@given(counts, st.data())
def test_ranked_kl_at_its_ends_and_mirrored(n: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, n))
    assert ranked_kl(n, 1) == pytest.approx(best_of_n_kl(n), abs=1e-9)
    assert ranked_kl(n, rank) == pytest.approx(ranked_kl(n, n + 1 - rank), abs=1e-9)
    assert 0 <= ranked_kl(n, rank) <= best_of_n_kl(n) + 1e-9


@given(counts, st.floats(-30, -1e-3))
def test_atomic_kl_is_its_formula(n: int, logprob: float) -> None:
    assert atomic_kl(n, logprob) == pytest.approx(laws.atomic(n, math.exp(logprob)), abs=1e-5)


@given(counts, st.floats(-800, 0))
def test_atomic_kl_is_between_zero_and_the_continuous_one(n: int, logprob: float) -> None:
    assert -1e-9 <= atomic_kl(n, logprob) <= min(best_of_n_kl(n), -logprob) + 1e-9


@pytest.mark.parametrize("n", [1, 2, 5, 256])
def test_atomic_kl_in_its_limits(n: int) -> None:
    for certain in (0.0, 1e-9, -1e-320, -1e-17, -5e-17, -1e-16, -1e-12):
        assert atomic_kl(n, certain) == pytest.approx(0, abs=1e-9)
    for rare in (-INF, -1e4, -745.0, -700.0, -40.0):
        assert atomic_kl(n, rare) == pytest.approx(best_of_n_kl(n), abs=1e-9)


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("e", [0.05, 0.3, 0.8])
def test_atomic_kl_of_the_best_atom_over_a_continuum_is_the_truth(n: int, e: float) -> None:
    hit = 1 - (1 - e) ** n
    continuum = divergence_to_uniform(lambda u: n * u ** (n - 1), upto=1 - e)
    truth = continuum + hit * math.log(hit / e)
    assert atomic_kl(n, math.log(e)) == pytest.approx(truth, abs=1e-9)
    in_mean = hit * atomic_kl(n, math.log(e)) + (1 - hit) * atomic_kl(n, -INF)
    assert in_mean > truth, "where the answer is not the atom, the estimate is the greater one"


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=6), st.integers(1, 40))
def test_atomic_kl_is_not_too_small_in_mean(masses: list[float], n: int) -> None:
    pi = {i: m / math.fsum(masses) for i, m in enumerate(masses)}
    best = laws.order_statistic(pi, {y: float(y) for y in pi}, n)
    in_mean = math.fsum(p * atomic_kl(n, math.log(pi[y])) for y, p in best.items())
    assert in_mean >= laws.kl(best, pi) - 1e-9


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8))
def test_selection_kl_is_the_divergence_from_a_uniform_choice(weights: list[float]) -> None:
    n = len(weights)
    p = [w / math.fsum(weights) for w in weights]
    uniform = dict.fromkeys(range(n), 1 / n)
    assert selection_kl(p, n) == pytest.approx(laws.kl(dict(enumerate(p)), uniform), abs=1e-9)
    assert selection_kl([1.0, 0.0], n) == pytest.approx(math.log(n))
    assert selection_kl(p, n + 3) == pytest.approx(selection_kl([*p, 0.0, 0.0, 0.0], n + 3))


def test_a_sum_of_rewards_is_nan_where_one_is_not_finite_or_the_sum_overflows() -> None:
    objective = Objective({"a": 2.0, "b": -100.0})
    good, *bad = objective.judge(
        [ScoredCandidate(EMPTY, {"a": a, "b": b}) for a, b in ((1.0, 10.0), (NAN, 1.0), (INF, 1.0), (2.0, 1e308))]
    )
    assert good.total == -998.0
    assert all(math.isnan(one.total) for one in bad)
