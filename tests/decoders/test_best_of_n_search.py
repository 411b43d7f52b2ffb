"""Best-of-N with a random number of candidates: a Poisson number, or as many as early stopping takes."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import scipy.stats

from decoders import BestOfN
from decoders.best_of_n import BestOfNInfo, Select
from decoders.models import Models
from decoders.parts.selection import Pessimistic, Softmax
from decoders.testing import EnumeratingRng, ToyPolicy, ToyReward, answers, bind, collect, every_path, law, mean
from tests.support import laws

POLICY = ToyPolicy(vocabulary=3, longest=3)
MODELS = Models(POLICY, {"default": ToyReward()})
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
EXACT = 1e-12


@dataclass
class Listening(EnumeratingRng):
    weights: list[Sequence[float]] = field(default_factory=list)

    def draw(self, log_weights: Sequence[float]) -> int:
        self.weights.append(log_weights)
        return super().draw(log_weights)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_poisson_draws_one_plus_a_poisson_number(n: int) -> None:
    async def first_choice() -> Sequence[float]:
        rng = Listening(path=(0,))
        async for _ in bind(BestOfN(n=n, poisson=True), MODELS)(rng):
            pass
        return rng.weights[0]

    log_pmf = asyncio.run(first_choice())
    want = scipy.stats.poisson.pmf(range(len(log_pmf)), n - 1)
    assert [math.exp(p) for p in log_pmf] == pytest.approx(list(want), abs=EXACT)
    assert math.fsum(want) >= 1 - 2e-12


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("batch", [None, 1])
def test_given_its_number_poisson_is_that_best_of_n(extra: int, batch: int | None) -> None:
    """Together with the law of the number, tested above, this makes the law the Poisson mixture of the P_N."""
    have = asyncio.run(law(bind(BestOfN(n=2, poisson=True, batch=batch), MODELS), given=(extra,)))
    assert have == pytest.approx(laws.order_statistic(PI, WORTH, extra + 1), abs=EXACT)


@pytest.mark.parametrize("at", [-5.0, -1.0, 0.0, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("batch", [1, 2])
def test_stopping_at_a_reward(batch: int, at: float) -> None:
    ends = asyncio.run(every_path(bind(BestOfN(n=3, batch=batch, stop_at=at), MODELS)))
    rule = laws.stopped(batch, at, laws.greatest)
    have = {y: p for (y,), p in collect(ends, answers).items()}
    assert have == pytest.approx(laws.chosen(PI, 3, laws.by(WORTH, rule)), abs=EXACT)
    draws = math.fsum(p * laws.drawn([WORTH[y] for y in ys], batch, at) for ys, p in laws.pools(PI, 3))
    assert mean(ends, lambda d: len(d.candidates)) == pytest.approx(draws, abs=EXACT)
    assert mean(ends, lambda d: d.results[0].diagnostics(BestOfNInfo).draws) == pytest.approx(draws, abs=EXACT)


@pytest.mark.parametrize(
    ("select", "weigh"), [(Softmax(beta=0.5), laws.boltzmann(0.5)), (Pessimistic(beta=0.5), laws.pessimistic(0.5))]
)
def test_stopping_under_another_rule(select: Select, weigh: laws.Weigh) -> None:
    have = asyncio.run(law(bind(BestOfN(n=3, batch=2, stop_at=1.0, select=select), MODELS)))
    rule = laws.stopped(2, 1.0, weigh)
    assert have == pytest.approx(laws.chosen(PI, 3, laws.by(WORTH, rule)), abs=EXACT)


def test_stopping_is_between_one_batch_and_all_of_them() -> None:
    rates = [
        laws.win_rate(asyncio.run(law(bind(BestOfN(n=3, batch=1, stop_at=at), MODELS))), PI, WORTH)
        for at in (-5.0, 0.0, 1.0, 5.0)
    ]
    assert rates[0] == pytest.approx(0.5, abs=EXACT)
    assert rates == sorted(set(rates))
    assert rates[-1] == pytest.approx(laws.win_rate(laws.order_statistic(PI, WORTH, 3), PI, WORTH), abs=EXACT)
