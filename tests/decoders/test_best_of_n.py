"""Best-of-N on the toy: the law of each rule of choice, to the last digit."""

import asyncio
import math
from functools import cache
from itertools import pairwise

import pytest

from decoders import BestOfN
from decoders.best_of_n import Select
from decoders.core import Sampling, Tokens
from decoders.maths.logmath import best_of_n_kl
from decoders.models import Models
from decoders.parts.selection import Argmax, Argmin, Pessimistic, Softmax
from decoders.testing import ToyBrevity, ToyPolicy, ToyReward, bind, joint_law, law
from tests.support import laws

POLICY = ToyPolicy(vocabulary=3, longest=3)
MODELS = Models(POLICY, {"default": ToyReward(), "brevity": ToyBrevity()})
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
BREVITY = {y: -float(len(y) - 1) for y in PI}

SMALL = ToyPolicy(vocabulary=3, longest=2)  # three completions
SMALL_PI = SMALL.completions()
SMALL_WORTH = {y: ToyReward().of(y) for y in SMALL_PI}

EXACT = 1e-12
RULES: list[tuple[Select, laws.Weigh]] = [
    (Argmax(), laws.greatest),
    (Argmin(), laws.least),
    (Softmax(beta=0.5), laws.boltzmann(0.5)),
    (Softmax(beta=3.0), laws.boltzmann(3.0)),
    (Pessimistic(beta=0.25), laws.pessimistic(0.25)),
    (Pessimistic(beta=1.0), laws.pessimistic(1.0)),
]
rules = pytest.mark.parametrize(("select", "weigh"), RULES, ids=[repr(select) for select, _ in RULES])
selects = pytest.mark.parametrize("select", [select for select, _ in RULES], ids=repr)


@cache
def best_of(n: int, select: Select) -> dict[Tokens, float]:
    return asyncio.run(law(bind(BestOfN(n=n, select=select), MODELS)))


def test_different_texts_tie_on_this_toy() -> None:
    assert len(set(WORTH.values())) < len(WORTH)


def test_ties_share_alike() -> None:
    """Laws cannot show it, since the draws are exchangeable and the first could always be taken; `selection_kl` can."""
    assert Argmax().log_weights([1.0, 3.0, 3.0]) == [-math.inf, 0.0, 0.0]
    assert Argmin().log_weights([1.0, 3.0, 1.0]) == [0.0, -math.inf, 0.0]
    for select in (Softmax(beta=0.5), Pessimistic(beta=0.5)):
        worst, *best = select.log_weights([1.0, 3.0, 3.0])
        assert best[0] == best[1] > worst


@pytest.mark.parametrize("n", [1, 2, 3])
def test_argmax_is_the_order_statistic_law(n: int) -> None:
    have = best_of(n, BestOfN().select)
    assert have == pytest.approx(laws.order_statistic(PI, WORTH, n), abs=EXACT)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_argmin_is_the_order_statistic_law_of_minus_the_reward(n: int) -> None:
    have = best_of(n, Argmin())
    assert have == pytest.approx(laws.order_statistic(PI, laws.negated(WORTH), n), abs=EXACT)


@pytest.mark.parametrize("n", [1, 2, 3])
@rules
def test_every_rule_is_its_law_by_brute_force(select: Select, weigh: laws.Weigh, n: int) -> None:
    have = best_of(n, select)
    assert have == pytest.approx(laws.chosen(PI, n, laws.by(WORTH, weigh)), abs=EXACT)


@selects
def test_one_candidate_is_the_policy(select: Select) -> None:
    assert best_of(1, select) == pytest.approx(PI, abs=EXACT)


@rules
def test_further_results_are_chosen_from_what_is_left(select: Select, weigh: laws.Weigh) -> None:
    models = Models(SMALL, {"default": ToyReward()})
    have = asyncio.run(joint_law(bind(BestOfN(n=3, select=select), models, Sampling(n=2))))
    assert have == pytest.approx(laws.chosen_in_turn(SMALL_PI, SMALL_WORTH, 3, 2, weigh), abs=EXACT)


def test_all_candidates_as_results_come_in_the_order_of_reward() -> None:
    have = asyncio.run(joint_law(bind(BestOfN(n=3), MODELS, Sampling(n=3))))
    assert all(WORTH[a] >= WORTH[b] >= WORTH[c] for a, b, c in have)
    assert have == pytest.approx(laws.chosen_in_turn(PI, WORTH, 3, 3, laws.greatest), abs=EXACT)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_drawing_in_batches_changes_nothing(batch: int) -> None:
    have = asyncio.run(law(bind(BestOfN(n=3, batch=batch), MODELS)))
    assert have == pytest.approx(laws.order_statistic(PI, WORTH, 3), abs=EXACT)


@pytest.mark.parametrize("weights", [{"default": 1.0, "brevity": 0.5}, {"default": -0.25, "brevity": 2.0}])
def test_several_rewards_are_one_weighted_sum(weights: dict[str, float]) -> None:
    both = {y: weights["default"] * WORTH[y] + weights["brevity"] * BREVITY[y] for y in PI}
    have = asyncio.run(law(bind(BestOfN(n=2, reward=weights), MODELS)))
    assert have == pytest.approx(laws.order_statistic(PI, both, 2), abs=EXACT)


def test_a_named_reward_is_the_one_that_counts() -> None:
    have = asyncio.run(law(bind(BestOfN(n=2, reward="brevity"), MODELS)))
    assert have == pytest.approx(laws.order_statistic(PI, BREVITY, 2), abs=EXACT)


@pytest.mark.parametrize("n", [1, 2, 3])
@selects
def test_divergence_and_win_rate_stay_under_their_bounds(select: Select, n: int) -> None:
    have = best_of(n, select)
    reward = laws.negated(WORTH) if isinstance(select, Argmin) else WORTH
    assert laws.kl(have, PI) <= best_of_n_kl(n) + EXACT
    assert 0.5 - EXACT <= laws.win_rate(have, PI, reward) <= laws.win_rate_bound(n) + EXACT


@pytest.mark.parametrize("n", [2, 4, 16])
def test_bounds_are_reached_as_the_reward_becomes_continuous(n: int) -> None:
    size = 400
    pi = dict.fromkeys(range(size), 1 / size)
    best = laws.order_statistic(pi, {y: float(y) for y in pi}, n)
    assert laws.kl(best, pi) == pytest.approx(best_of_n_kl(n), abs=n / size)
    assert laws.win_rate(best, pi, {y: float(y) for y in pi}) == pytest.approx(laws.win_rate_bound(n), abs=n / size**2)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_softmax_tends_to_the_tilted_policy_as_n_grows(beta: float) -> None:
    target = laws.tilted(SMALL_PI, SMALL_WORTH, beta)
    models = Models(SMALL, {"default": ToyReward()})
    away = []
    for n in (1, 2, 4, 8):
        closed = laws.chosen(SMALL_PI, n, laws.by(SMALL_WORTH, laws.boltzmann(beta)))
        if n <= 4:  # what the strategy does; beyond, its law alone
            assert asyncio.run(law(bind(BestOfN(n=n, select=Softmax(beta=beta)), models))) == pytest.approx(
                closed, abs=EXACT
            )
        away.append(laws.total_variation(closed, target))
    assert all(later < 0.75 * earlier for earlier, later in pairwise(away))


@pytest.mark.parametrize(
    "select", [Softmax(beta=1e-12), Pessimistic(beta=1e-12), Softmax(beta=1e-9), Pessimistic(beta=1e-9)]
)
def test_a_vanishing_temperature_is_argmax(select: Select) -> None:
    have = best_of(2, select)
    assert have == pytest.approx(laws.order_statistic(PI, WORTH, 2), abs=EXACT)


@pytest.mark.parametrize("select", [Softmax(beta=1e6), Pessimistic(beta=1e6)])
def test_a_great_temperature_is_the_policy(select: Select) -> None:
    have = best_of(2, select)
    assert have == pytest.approx(PI, abs=1e-5)
    assert math.fsum(have[y] * WORTH[y] for y in PI) > math.fsum(PI[y] * WORTH[y] for y in PI)
