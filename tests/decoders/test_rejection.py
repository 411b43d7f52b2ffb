"""Rejection sampling on the exact toy: its law to the last digit, and the report if `max_draws` cuts it off."""

import asyncio
import math
from collections import defaultdict
from typing import Any

import pytest
from scipy.integrate import quad

from decoders import Rejection
from decoders.core import Sampling, Tokens
from decoders.errors import DecantError, InvalidRequest, NoUsableReward
from decoders.events import Done
from decoders.maths.transforms import Exponential, Identity, Log, expected_draws, tilt_kl
from decoders.models import Models, Reward
from decoders.rejection import RejectionInfo
from decoders.testing import ToyBrevity, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path
from tests.support import laws
from tests.support.fakes import giving

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})
TINY = ToyPolicy(vocabulary=3, longest=2)
REWARDS: dict[str, Reward] = {"default": ToyReward(), "brevity": ToyBrevity()}
PI, TINY_PI = POLICY.completions(), TINY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}


def accepted_law(ends: list[tuple[float, Done | DecantError]]) -> tuple[dict[Tokens, float], float]:
    """Return the law of accepted answers, and the probability that there is one."""
    law: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in ends:
        [result] = done(end).results
        if result.diagnostics(RejectionInfo).accepted:
            law[result.candidate.tokens] += p
    mass = math.fsum(law.values())
    return {y: p / mass for y, p in law.items()}, mass


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("batch", [1, 2])
def test_accepted_answers_have_the_tilted_law(beta: float, batch: int) -> None:
    decoder = Rejection(beta=beta, r_max=2.0, batch=batch, max_draws=2, reward="default")
    ends = asyncio.run(every_path(bind(decoder, Models(POLICY, REWARDS))))
    law, mass = accepted_law(ends)
    assert law == pytest.approx(laws.tilted(PI, WORTH, beta), abs=EXACT)
    accept = math.fsum(p * math.exp((WORTH[y] - 2.0) / beta) for y, p in PI.items())
    assert mass == pytest.approx(1 - (1 - accept) ** 2, abs=EXACT)


def test_several_rewards_tilt_by_their_sum() -> None:
    decoder = Rejection(beta=1.0, r_max=3.0, batch=1, max_draws=1, reward={"default": 1.0, "brevity": 0.5})
    law, _ = accepted_law(asyncio.run(every_path(bind(decoder, Models(POLICY, REWARDS)))))
    total = {y: WORTH[y] - 0.5 * sum(t != 0 for t in y) for y in PI}
    assert law == pytest.approx(laws.tilted(PI, total, 1.0), abs=EXACT)


def test_a_guided_policy_is_tilted_in_its_turn() -> None:
    guided = POLICY.completions(guides={"kind": 1.0})
    decoder = Rejection(beta=1.0, r_max=2.0, batch=1, max_draws=1, reward="default", guides={"kind": 1.0})
    law, _ = accepted_law(asyncio.run(every_path(bind(decoder, Models(POLICY, REWARDS)))))
    assert law == pytest.approx(laws.tilted(guided, WORTH, 1.0), abs=EXACT)


@pytest.mark.parametrize("phi", [Identity(), Exponential(t=2.0), Exponential(t=-2.0), Log()], ids=lambda p: p.kind)
def test_a_calibrated_tilt_is_exact_for_the_quantiles_that_the_rollouts_estimate(phi: Any) -> None:
    """This is the law of accepted answers given each pair of rollouts."""
    decoder = Rejection(beta=0.7, calibrated=True, transform=phi, rollouts=2, batch=1, max_draws=2)
    ends = asyncio.run(every_path(bind(decoder, Models(TINY, REWARDS))))
    want: defaultdict[Tokens, float] = defaultdict(float)
    for pair, p in laws.pools(TINY_PI, 2):
        rivals = [ToyReward().of(y) for y in pair]
        score = {y: phi(laws.quantile(ToyReward().of(y), rivals)) for y in TINY_PI}
        accept = {y: math.exp((score[y] - phi(1.0)) / 0.7) for y in TINY_PI}
        once = math.fsum(TINY_PI[y] * accept[y] for y in TINY_PI)
        for y, q in TINY_PI.items():
            want[y] += p * q * accept[y] * (1 + (1 - once))  # at the first draw or at the second
    mass = math.fsum(want.values())
    law, reached = accepted_law([e for e in ends if isinstance(e[1], Done)])
    assert reached == pytest.approx(mass, abs=EXACT)
    assert law == pytest.approx({y: v / mass for y, v in want.items() if v > 0}, abs=EXACT)


def test_what_was_not_accepted_is_a_softmax_pick_and_says_so() -> None:
    decoder = Rejection(beta=1.0, r_max=9.0, batch=2, max_draws=2, reward="default")
    ends = asyncio.run(every_path(bind(decoder, Models(TINY, REWARDS))))
    refused: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in ends:
        [result] = done(end).results
        assert result.diagnostics(RejectionInfo).draws == 2
        if not result.diagnostics(RejectionInfo).accepted:
            refused[result.candidate.tokens] += p
    worth = {y: ToyReward().of(y) for y in TINY_PI}
    want: defaultdict[Tokens, float] = defaultdict(float)
    for pair, p in laws.pools(TINY_PI, 2):
        neither = math.prod(1 - math.exp(worth[y] - 9.0) for y in pair)
        weights = laws.boltzmann(1.0)([worth[y] for y in pair])
        for y, w in zip(pair, weights, strict=True):
            want[y] += p * neither * w / math.fsum(weights)
    assert refused == pytest.approx(want, abs=EXACT)


def test_a_reward_above_its_bound_is_an_error() -> None:
    decoder = Rejection(beta=1.0, r_max=0.5, batch=1, max_draws=1, reward="default")
    ends = asyncio.run(every_path(bind(decoder, Models(POLICY, REWARDS))))
    bad = math.fsum(p for p, end in ends if isinstance(end, InvalidRequest) and end.field == "strategy.r_max")
    assert bad == pytest.approx(math.fsum(p for y, p in PI.items() if WORTH[y] > 0.5), abs=EXACT)


def test_results_are_independent_draws() -> None:
    decoder = Rejection(beta=1.0, r_max=1.0, batch=3, max_draws=3, reward="default")
    ends = asyncio.run(every_path(bind(decoder, Models(TINY, REWARDS), Sampling(n=2))))
    both: defaultdict[tuple[Tokens, ...], float] = defaultdict(float)
    for p, end in ends:
        if all(r.diagnostics(RejectionInfo).accepted for r in done(end).results):
            both[tuple(r.candidate.tokens for r in done(end).results)] += p
    mass = math.fsum(both.values())
    tilted = laws.tilted(TINY_PI, {y: ToyReward().of(y) for y in TINY_PI}, 1.0)
    product = {(a, b): tilted[a] * tilted[b] for a in tilted for b in tilted}
    assert {pair: p / mass for pair, p in both.items()} == pytest.approx(product, abs=EXACT)


def test_without_a_finite_reward_nothing_is_accepted() -> None:
    decoder = Rejection(r_max=1.0, batch=1, max_draws=1)
    ends = asyncio.run(every_path(bind(decoder, Models(TINY, {"default": giving(math.nan)}))))
    assert all(isinstance(end, NoUsableReward) for _, end in ends)


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("phi", [Identity(), Exponential(t=3.0), Exponential(t=-3.0), Log()], ids=lambda p: p.kind)
def test_expected_draws_and_divergence_are_their_integrals(phi: Any, beta: float) -> None:
    def density(u: float) -> float:
        return math.exp((phi(u) - phi(1.0)) / beta)

    z, _ = quad(density, 0, 1, epsabs=1e-13)
    kl, _ = quad(lambda u: density(u) / z * math.log(density(u) / z) if density(u) > 0 else 0.0, 0, 1, limit=200)
    assert expected_draws(phi, beta) == pytest.approx(1 / z, rel=1e-4)
    assert tilt_kl(phi, beta) == pytest.approx(kl, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("field", "more", "sampling"),
    [
        ("strategy.r_max", {}, Sampling()),
        ("strategy.r_max", {"r_max": 1.0, "calibrated": True}, Sampling()),
        ("strategy.transform", {"r_max": 1.0, "transform": {"kind": "log"}}, Sampling()),
        ("strategy.max_draws", {"calibrated": True, "beta": 0.001}, Sampling()),
        ("strategy.max_draws", {"calibrated": True, "beta": 1.0, "max_draws": 3}, Sampling(n=2)),
        ("strategy.reward", {"calibrated": True, "reward": {"default": -1.0}}, Sampling()),
        ("sampling.temperature", {"r_max": 1.0}, Sampling(temperature=0.0)),
    ],
)
def test_what_cannot_be_is_named(field: str, more: dict[str, Any], sampling: Sampling) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Rejection.model_validate({"reward": "default", **more}).check(Models(POLICY, REWARDS), sampling)
    assert raised.value.field == field
