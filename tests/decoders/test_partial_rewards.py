"""Rewards that do not apply to every completion: the law of choices by the sum of those that apply."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from decoders import BestOfN, Rejection
from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import NoUsableReward
from decoders.maths.quantiles import leave_one_out
from decoders.maths.transforms import Exponential, Identity, Log
from decoders.models import Models
from decoders.rejection import RejectionInfo
from decoders.testing import ToyPolicy, ToyReward, bind, done, every_path, law
from tests.support import laws

EXACT = 1e-12
POLICY = ToyPolicy(vocabulary=3, longest=3)
PI = POLICY.completions()
HOLE, OTHER = (2, 0), (1, 0)
WEIGHTS = {"default": 1.0, "brevity": 0.5}
WORTH: dict[Tokens, float | None] = {y: None if y == HOLE else ToyReward().of(y) for y in PI}
BREVITY: dict[Tokens, float | None] = {y: -float(sum(t != 0 for t in y)) for y in PI}


class Table:
    """A reward that is a table of values."""

    def __init__(self, values: dict[Tokens, float | None]) -> None:
        self.values = values

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float | None]:  # noqa: ARG002
        return [self.values[c.tokens] for c in completions]


def models(**values: dict[Tokens, float | None]) -> Models:
    return Models(POLICY, {name: Table(table) for name, table in values.items()})


def total(y: Tokens, *tables: dict[Tokens, float | None]) -> float:
    """Return the weighted sum of the rewards that apply."""
    terms = [w * value for w, table in zip(WEIGHTS.values(), tables, strict=True) if (value := table[y]) is not None]
    return math.fsum(terms) if terms else math.nan


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum() -> None:
    have = asyncio.run(law(bind(BestOfN(n=2, reward=WEIGHTS), models(default=WORTH, brevity=BREVITY))))
    want = laws.order_statistic(PI, {y: total(y, WORTH, BREVITY) for y in PI}, 2)
    assert have == pytest.approx(want, abs=EXACT)
    scaled = {y: v * 3 if y == HOLE else v for y in PI for v in [total(y, WORTH, BREVITY)]}
    assert have != pytest.approx(laws.order_statistic(PI, scaled, 2), abs=1e-3), "as if the rest were scaled up"


@pytest.mark.parametrize("hole", [None, math.nan])
def test_a_candidate_that_no_reward_applies_to_is_out(hole: float | None) -> None:
    alone = models(default={**WORTH, HOLE: hole})
    both = models(default={**WORTH, HOLE: hole}, brevity={**BREVITY, HOLE: hole})
    for reward, loaded, totals in (
        ("default", alone, WORTH),
        (WEIGHTS, both, {y: total(y, WORTH, {**BREVITY, HOLE: None}) for y in PI}),
    ):
        have = asyncio.run(law(bind(BestOfN(n=2, reward=reward), loaded)))
        want = laws.chosen(
            PI, 2, laws.by({y: math.nan if v is None else v for y, v in totals.items()}, laws.without(laws.greatest))
        )
        assert have.pop(()) == pytest.approx(PI[HOLE] ** 2, abs=EXACT)
        assert have == pytest.approx(want, abs=EXACT)


def test_a_reward_that_applies_and_has_no_value_puts_the_candidate_out() -> None:
    have = asyncio.run(
        law(bind(BestOfN(n=2, reward=WEIGHTS), models(default={**WORTH, HOLE: math.nan}, brevity=BREVITY)))
    )
    assert HOLE not in have
    assert have[()] == pytest.approx(PI[HOLE] ** 2, abs=EXACT)


@pytest.mark.parametrize("rollouts", [0, 1, 2])
def test_a_calibrated_reward_is_a_quantile_among_the_samples_that_it_applies_to(rollouts: int) -> None:
    tables = {"default": WORTH, "brevity": {**BREVITY, OTHER: None}}

    def totals(ys: tuple[Tokens, ...], zs: tuple[Tokens, ...] | None) -> list[float]:
        sums = []
        for i, y in enumerate(ys):
            terms = []
            for name, weight in WEIGHTS.items():
                own = tables[name][y]
                rivals = [tables[name][z] for z in (ys[:i] + ys[i + 1 :] if zs is None else zs)]
                there = [r for r in rivals if r is not None]
                if own is not None:
                    terms.append(weight * (laws.quantile(own, there) if there else 0.5))
            sums.append(round(math.fsum(terms), 9))
        return sums

    want: defaultdict[Tokens, float] = defaultdict(float)
    for zs, p in laws.pools(PI, rollouts):

        def weigh(ys: tuple[Tokens, ...], zs: tuple[Tokens, ...] = zs) -> Sequence[float]:
            return laws.greatest(totals(ys, zs if rollouts else None))

        for y, q in laws.chosen(PI, 2, weigh).items():
            want[y] += p * q
    decoder = BestOfN(n=2, reward=WEIGHTS, calibrated=True, rollouts=rollouts or "candidates")
    have = asyncio.run(law(bind(decoder, models(**tables))))
    assert have == pytest.approx(dict(want), abs=EXACT)


def test_a_reward_that_does_not_apply_has_no_quantile() -> None:
    assert leave_one_out([1.0, None, 0.0]) == [1.0, None, 0.0]
    assert leave_one_out([None, 2.0]) == [None, 0.5]


@pytest.mark.parametrize("phi", [Identity(), Exponential(t=1.0), Exponential(t=-1.0), Log()], ids=lambda p: p.kind)
def test_rejection_tilts_by_the_sum_of_the_rewards_that_apply_and_by_no_more_than_its_bound(phi: Any) -> None:
    tiny = ToyPolicy(vocabulary=3, longest=2)
    pi = tiny.completions()
    tables = {"default": {y: WORTH[y] for y in pi}, "brevity": {y: BREVITY[y] for y in pi}}
    loaded = Models(tiny, {name: Table(table) for name, table in tables.items()})
    decoder = Rejection(beta=0.7, calibrated=True, transform=phi, rollouts=1, batch=1, max_draws=1, reward=WEIGHTS)
    bound = 1.5 * phi(1.0)
    want: defaultdict[Tokens, float] = defaultdict(float)
    for z, p in pi.items():
        for y, q in pi.items():
            terms = []
            for name, weight in WEIGHTS.items():
                own, rival = tables[name][y], tables[name][z]
                if own is not None:
                    terms.append(weight * phi(0.5 if rival is None else laws.quantile(own, [rival])))
            score = min(math.fsum(terms), bound)
            want[y] += p * q * math.exp((score - bound) / 0.7)
    have: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in asyncio.run(every_path(bind(decoder, loaded))):
        if isinstance(end, NoUsableReward):  # by the logarithm of 0
            continue
        [result] = done(end).results
        if result.diagnostics(RejectionInfo).accepted:
            have[result.candidate.tokens] += p
            assert result.diagnostics(RejectionInfo).log_z is not None
            assert result.diagnostics(RejectionInfo).log_z <= bound / 0.7 + EXACT
    assert dict(have) == pytest.approx({y: v for y, v in want.items() if v > 0}, abs=EXACT)


def test_rejection_tilts_by_the_raw_rewards_that_apply() -> None:
    decoder = Rejection(beta=1.0, r_max=3.0, batch=1, max_draws=1, reward=WEIGHTS)
    ends = asyncio.run(every_path(bind(decoder, models(default=WORTH, brevity=BREVITY))))
    have: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in ends:
        [result] = done(end).results
        if result.diagnostics(RejectionInfo).accepted:
            have[result.candidate.tokens] += p
    mass = math.fsum(have.values())
    want = laws.tilted(PI, {y: total(y, WORTH, BREVITY) for y in PI}, 1.0)
    assert {y: p / mass for y, p in have.items()} == pytest.approx(want, abs=1e-9)
