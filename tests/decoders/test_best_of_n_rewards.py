"""Best-of-N by calibrated rewards, and by rewards that some completions do not have."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from decoders import BestOfN
from decoders.best_of_n import BestOfNInfo, Select
from decoders.core import Candidate, Prompt, Sampling, Tokens
from decoders.errors import NoUsableReward
from decoders.models import Models
from decoders.parts.selection import Argmax, Argmin, Pessimistic, Softmax
from decoders.testing import ToyBrevity, ToyPolicy, ToyReward, answers, bind, collect, done, every_path, joint_law, law
from tests.support import laws

POLICY = ToyPolicy(vocabulary=3, longest=3)
MODELS = Models(POLICY, {"default": ToyReward(), "brevity": ToyBrevity()})
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
BREVITY = {y: -float(len(y) - 1) for y in PI}
HOLE = (2, 0)  # of probability 1/7
EXACT = 1e-12


@dataclass(frozen=True)
class Holed(ToyReward):
    """The toy's reward, but without a value for some completions."""

    holes: dict[Tokens, float] = field(default_factory=lambda: {HOLE: math.nan})
    scores_all: ClassVar[bool] = False

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [self.holes.get(c.tokens, self.of(c.tokens)) for c in completions]


def test_stopping_waits_for_as_many_usable_candidates_as_results() -> None:
    models = Models(POLICY, {"default": Holed()})
    ends = asyncio.run(every_path(bind(BestOfN(n=3, batch=1, stop_at=-5.0), models, Sampling(n=2))))
    for _, end in ends:
        if isinstance(end, NoUsableReward):
            continue
        totals = [s.total for s in done(end).candidates]
        assert sum(map(math.isfinite, totals[:-1])) == 1, "the last draw is the second usable one"
    fails = math.fsum(p for ys, p in laws.pools(PI, 3) if ys.count(HOLE) >= 2)
    assert collect(ends, answers)[()] == pytest.approx(fails, abs=EXACT)


@pytest.mark.parametrize(("rollouts", "n"), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("weights", [{"default": 1.0}, {"default": 1.0, "brevity": 0.5}])
def test_calibrated_by_rollouts(rollouts: int, n: int, weights: dict[str, float]) -> None:
    rewards = {"default": WORTH, "brevity": BREVITY}
    want: dict[Tokens, float] = dict.fromkeys(PI, 0.0)
    for zs, p in laws.pools(PI, rollouts):
        total = {
            y: math.fsum(
                w * laws.quantile(rewards[name][y], [rewards[name][z] for z in zs]) for name, w in weights.items()
            )
            for y in PI
        }
        for y, q in laws.order_statistic(PI, total, n).items():
            want[y] += p * q
    have = asyncio.run(law(bind(BestOfN(n=n, reward=weights, calibrated=True, rollouts=rollouts), MODELS)))
    assert have == pytest.approx(want, abs=EXACT)


def test_calibrated_stopping_compares_the_quantile() -> None:
    decoder = BestOfN(n=2, batch=1, calibrated=True, rollouts=1, stop_at=1.0)
    want: dict[Tokens, float] = dict.fromkeys(PI, 0.0)
    for z, p in PI.items():
        quantile = {y: laws.quantile(WORTH[y], [WORTH[z]]) for y in PI}
        for y, q in laws.chosen(PI, 2, laws.by(quantile, laws.stopped(1, 1.0, laws.greatest))).items():
            want[y] += p * q
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_rollouts_are_not_candidates() -> None:
    decoder = BestOfN(n=4, poisson=True, calibrated=True, rollouts=1)
    for _, end in asyncio.run(every_path(bind(decoder, MODELS, Sampling(max_tokens=2)), given=(1,))):
        assert len(done(end).candidates) == done(end).results[0].diagnostics(BestOfNInfo).draws == 2
        assert done(end).cost.candidates == 3


@pytest.mark.parametrize("select", [Argmax(), Argmin(), Softmax(beta=0.2)])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_calibrated_against_each_other(n: int, select: Select) -> None:
    def judge(ys: tuple[Tokens, ...]) -> list[float]:
        totals = [0.0] * n
        for reward, weight in ((WORTH, 1.0), (BREVITY, 0.5)):
            for i, y in enumerate(ys):
                others = [reward[z] for z in ys[:i] + ys[i + 1 :]]
                totals[i] += weight * (laws.quantile(reward[y], others) if others else 0.5)
        totals = [round(t, 9) for t in totals]  # halves and quarters
        rules = {"argmax": laws.greatest, "argmin": laws.least, "softmax": laws.boltzmann(0.2)}
        return list(rules[select.by](totals))

    decoder = BestOfN(
        n=n, reward={"default": 1.0, "brevity": 0.5}, calibrated=True, rollouts="candidates", select=select
    )
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(laws.chosen(PI, n, judge), abs=EXACT)


def test_one_reward_calibrated_against_each_other_is_plain_best_of_n() -> None:
    have = asyncio.run(law(bind(BestOfN(n=3, reward="default", calibrated=True, rollouts="candidates"), MODELS)))
    assert have == pytest.approx(laws.order_statistic(PI, WORTH, 3), abs=EXACT)


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("select", "weigh"),
    [
        (Argmax(), laws.greatest),
        (Argmin(), laws.least),
        (Softmax(beta=1.0), laws.boltzmann(1.0)),
        (Pessimistic(beta=1.0), laws.pessimistic(1.0)),
    ],
)
def test_a_candidate_without_a_reward_is_out(select: Select, weigh: laws.Weigh, hole: float) -> None:
    models = Models(POLICY, {"default": Holed(holes={HOLE: hole})})
    ends = asyncio.run(every_path(bind(BestOfN(n=2, select=select, return_kl=True), models)))
    have = collect(ends, answers)
    assert have.pop(()) == pytest.approx(PI[HOLE] ** 2, abs=EXACT)
    want = laws.chosen(PI, 2, laws.by({**WORTH, HOLE: hole}, laws.without(weigh)))
    assert {y: p for (y,), p in have.items()} == pytest.approx(want, abs=EXACT)
    for _, end in ends:
        if isinstance(end, NoUsableReward):
            continue
        (result,) = done(end).results
        out = [s for s in done(end).candidates if s.candidate.tokens == HOLE]
        assert all(math.isnan(s.total) for s in out)
        assert result.kl is None


@pytest.mark.parametrize("calibrated", [False, True])
def test_no_reward_at_all_is_an_error(calibrated: bool) -> None:
    models = Models(POLICY, {"default": Holed(holes=dict.fromkeys(PI, math.nan))})
    ends = asyncio.run(every_path(bind(BestOfN(n=2, calibrated=calibrated, rollouts="candidates"), models)))
    assert all(isinstance(end, NoUsableReward) for _, end in ends)


def test_too_few_rewards_for_the_results_is_an_error() -> None:
    models = Models(POLICY, {"default": Holed()})
    have = asyncio.run(joint_law(bind(BestOfN(n=2), models, Sampling(n=2))))
    assert have[()] == pytest.approx(1 - (1 - PI[HOLE]) ** 2, abs=EXACT)
