"""The win rates of a tilted policy: InfAlign's formulas by quadrature, by simulation and by replay."""

import asyncio
import itertools
import math
import random
from statistics import fmean

import pytest

from decoders.maths.transforms import Exponential, Identity, Log, Transform, tilt_kl
from evaluation.laws.infalign import answer_rewards, over, win
from evaluation.laws.win_rates import best_of_n_win_rate, beta_at, worst_of_n_win_rate
from tests.evaluation.test_frontiers import POOL


@pytest.mark.parametrize(
    ("phi", "best", "worst"),
    [(Identity(), 0.877, 0.974), (Exponential(t=10.0), 0.935, 0.771), (Exponential(t=-10.0), 0.809, 0.993)],
    ids=repr,
)
def test_figures_at_one_nat_and_four_draws(phi: Transform, best: float, worst: float) -> None:
    beta = beta_at(phi, 1.0)
    assert tilt_kl(phi, beta) == pytest.approx(1.0, abs=1e-6)
    assert best_of_n_win_rate(phi, beta, 4) == pytest.approx(best, abs=5e-4)
    assert worst_of_n_win_rate(phi, beta, 4) == pytest.approx(worst, abs=5e-4)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_logarithms_tilt_is_best_of_more(n: int) -> None:
    """u^(1/beta) is the density of the best of 1 + 1/beta draws, and the best of n of those of n (1 + 1/beta)."""
    m = n * 3
    assert best_of_n_win_rate(Log(), 0.5, n) == pytest.approx(m / (m + n), abs=1e-6)


@pytest.mark.parametrize("phi", [Identity(), Exponential(t=4.0), Exponential(t=-4.0)], ids=repr)
def test_by_simulation(phi: Transform) -> None:
    """Uniform quantiles, accepted in proportion to the tilt; 20,000 contests, against their standard deviation."""
    n, contests, rng = 3, 20_000, random.Random(1)
    beta = beta_at(phi, 0.7)

    def tilted() -> float:
        while True:
            u = rng.random()
            if rng.random() < math.exp((phi(u) - phi(1.0)) / beta):
                return u

    def plain() -> list[float]:
        return [rng.random() for _ in range(n)]

    pairs = [([tilted() for _ in range(n)], plain()) for _ in range(contests)]
    for select, want in ((max, best_of_n_win_rate(phi, beta, n)), (min, worst_of_n_win_rate(phi, beta, n))):
        won = fmean(select(ours) > select(theirs) for ours, theirs in pairs)
        assert abs(won - want) < 4 * math.sqrt(want * (1 - want) / contests)


@pytest.mark.parametrize("reward", [-1.0, 0.0, 1.0, 1.5, 3.0])
def test_a_win_is_counted_over_every_choice_of_rivals(reward: float) -> None:
    rivals = [0.0, 1.0, 1.0, 2.0, 3.0]

    def by_hand(select: str) -> float:
        pick = max if select == "argmax" else min
        chances = [pick(own) for own in itertools.combinations(rivals, 2)]
        # A tie counts half of what it would be worth as a win, and half as a loss, each rival by itself.
        strict = fmean(pick(own) < reward for own in itertools.combinations(rivals, 2))
        loose = fmean(c <= reward for c in chances)
        return (strict + loose) / 2

    for select in ("argmax", "argmin"):
        assert win(reward, rivals, 2, select) == pytest.approx(by_hand(select))


def test_replayed_best_of_n_over_the_tilt_wins_as_the_theory_says() -> None:
    """On a pool without ties, with all its quantiles for rollouts."""
    beta = beta_at(Identity(), 1.0)
    strategy = over("argmax", Identity(), beta, 2)
    rewards = [r for seed in range(12) for r in asyncio.run(answer_rewards(strategy, POOL, POOL.scores(), seed))]
    won = fmean(win(r, POOL.scores(), 2, "argmax") for r in rewards)
    assert len(rewards) > 200
    assert won == pytest.approx(best_of_n_win_rate(Identity(), beta, 2), abs=0.03)
