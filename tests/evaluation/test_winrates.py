"""The win rates of a tilted policy: InfAlign's formulas by quadrature and by simulation, and how evaluations count."""

import asyncio
import itertools
import math
import random
from pathlib import Path
from statistics import fmean

import pytest

from decoders import SpeculativeRejection
from decoders.core import Prompt, Sampling
from decoders.events import Done
from decoders.maths.transforms import Exponential, Identity, Log, Transform, tilt_kl
from decoders.models import Models
from decoders.rng import SeededRng
from evaluation.early import best_of, equal_n
from evaluation.infalign import answers, over, win
from evaluation.replay import Exhausted, Pool, Replay, load, save
from evaluation.winrates import best_of_n_win_rate, beta_at, worst_of_n_win_rate


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


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_mean_of_best_of_n_is_exact_on_a_pool(n: int) -> None:
    scores = [0.3, -1.0, 2.0, 0.3, 5.0]
    want = fmean(max(own) for own in itertools.combinations(scores, n))
    assert best_of(scores, n) == pytest.approx(want)
    assert equal_n(scores, want, 5) == pytest.approx(n)


POOL = Pool(
    Prompt((1,), "x"),
    [(i, j) for i in range(20) for j in range(20)],
    {(i,): float(i) for i in range(20)} | {(i, j): 20.0 * i + j for i in range(20) for j in range(20)},
)


def test_a_replay_gives_each_draw_once_and_goes_on_as_it_began() -> None:
    async def test() -> None:
        replay = Replay(POOL)
        models = Models(replay, {"default": replay})
        seen: list[tuple[int, ...]] = []
        strategy = SpeculativeRejection(n=8, checkpoints=[1], keep=0.5)
        for run in range(50):
            async for event in strategy.decode(POOL.prompt, models, Sampling(max_tokens=2), SeededRng(run)):
                if isinstance(event, Done):
                    seen += [s.candidate.tokens for s in event.candidates if not s.aborted]
        assert len(seen) == len(set(seen)) == 200
        assert set(seen) <= set(POOL.draws)
        with pytest.raises(Exhausted):
            await anext(replay.sample(POOL.prompt, 1, Sampling(), SeededRng(0)))

    asyncio.run(test())


def test_replayed_best_of_n_over_the_tilt_wins_as_the_theory_says() -> None:
    """On a pool without ties, with all its quantiles for rollouts."""
    beta = beta_at(Identity(), 1.0)
    strategy = over("argmax", Identity(), beta, 2)
    rewards = [r for seed in range(12) for r in asyncio.run(answers(strategy, POOL, POOL.scores(), seed))]
    won = fmean(win(r, POOL.scores(), 2, "argmax") for r in rewards)
    assert len(rewards) > 200
    assert won == pytest.approx(best_of_n_win_rate(Identity(), beta, 2), abs=0.03)


def test_pools_are_saved_whole(tmp_path: Path) -> None:
    file = tmp_path / "pools.jsonl"
    for _ in range(2):
        save(POOL, file)
    assert load(file) == [POOL, POOL]
