"""The calibrated reward against the definition of a quantile."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.maths import quantiles
from decoders.maths.quantiles import leave_one_out
from tests.support.laws import quantile

INF, NAN = math.inf, math.nan
rewards = st.lists(st.integers(-4, 4).map(float) | st.floats(-1e6, 1e6), min_size=1, max_size=12)
holes = st.lists(st.sampled_from([INF, -INF, NAN]), max_size=3)


def among_themselves(rewards: Sequence[float]) -> list[float]:
    """Return the quantile of each among the others."""
    found = leave_one_out(rewards)
    assert None not in found
    return [q for q in found if q is not None]


def calibrate(rewards: Sequence[float], rollouts: Sequence[float]) -> list[float]:
    return [quantiles.quantile(reward, quantiles.rank(rollouts)) for reward in rewards]


@given(rewards, rewards, holes)
def test_calibrate_is_the_definition_over_the_finite_rollouts(
    scored: list[float], rollouts: list[float], out: list[float]
) -> None:
    want = [quantile(r, rollouts) for r in scored]
    assert calibrate(scored, out + rollouts) == pytest.approx(want, abs=1e-12)


@given(rewards.filter(lambda r: len(r) > 1), holes)
def test_leave_one_out_is_the_definition_over_the_other_candidates(scored: list[float], out: list[float]) -> None:
    want = [quantile(r, scored[:i] + scored[i + 1 :]) for i, r in enumerate(scored)]
    have = among_themselves(scored + out)
    assert have[: len(scored)] == pytest.approx(want, abs=1e-12)
    assert all(map(math.isnan, have[len(scored) :]))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_all_ties_are_one_half(size: int) -> None:
    assert calibrate([3.0] * size, [3.0, 3.0]) == [0.5] * size
    assert leave_one_out([3.0] * size) == [0.5] * size


@pytest.mark.parametrize("hole", [NAN, INF, -INF])
def test_a_reward_that_is_not_finite_has_no_quantile(hole: float) -> None:
    first, second = calibrate([hole, 1.0], [0.0, 2.0])
    assert math.isnan(first)
    assert second == 0.5


def test_nothing_to_compare_with_gives_the_prior_mean() -> None:
    assert calibrate([1.0, -1.0], []) == [0.5, 0.5]
    assert calibrate([1.0], [NAN, INF]) == [0.5]
    assert leave_one_out([1.0]) == [0.5]
    assert leave_one_out([1.0, NAN])[0] == 0.5


def test_ends_of_the_scale() -> None:
    assert calibrate([-1.0, 0.0, 0.5, 1.0, 2.0], [0.0, 1.0]) == [0.0, 0.25, 0.5, 0.75, 1.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30, unique=True))
def test_a_policy_without_ties_has_uniform_quantiles(scored: list[float]) -> None:
    n = len(scored)
    assert sorted(among_themselves(scored)) == pytest.approx([k / (n - 1) for k in range(n)], abs=1e-12)
    assert sorted(calibrate(scored, scored)) == pytest.approx([(k + 0.5) / n for k in range(n)], abs=1e-12)


@given(rewards, st.floats(0.1, 10), st.integers(-3, 3))
def test_only_the_order_counts(scored: list[float], scale: float, shift: int) -> None:
    rounded = [round(r) for r in scored]
    moved = [scale * r + shift * scale for r in rounded]
    assert leave_one_out(moved) == leave_one_out([float(r) for r in rounded])
