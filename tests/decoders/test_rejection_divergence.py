"""Rejection's log Z and KL are unbiased though drawing stops at acceptance, by enumeration of whole runs."""

import asyncio
import itertools
import math
from collections.abc import Sequence

import pytest
from scipy.special import digamma

from decoders import BestOfN, Rejection
from decoders.core import Sampling
from decoders.events import Done
from decoders.maths.acceptance import log_rate
from decoders.models import Models
from decoders.rejection import RejectionInfo
from decoders.testing import ToyGuide, ToyPolicy, ToyReward, bind, done, every_path
from tests.support import laws

EXACT = 1e-9
# Two answers, of which one is always accepted: long runs have few paths. The empty answer is worth nothing.
TWO = ToyPolicy(vocabulary=2, longest=2, loaded={"kind": ToyGuide((0.0, 1.0))})
PI = TWO.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
MODELS = Models(TWO, {"default": ToyReward()})


def runs(decoder: Rejection, n: int = 1) -> list[tuple[float, Done]]:
    return [(p, done(end)) for p, end in asyncio.run(every_path(bind(decoder, MODELS, Sampling(n=n))))]


def log_z(beta: float, pi: dict[tuple[int, ...], float] = PI) -> float:
    return math.log(math.fsum(p * math.exp(WORTH[y] / beta) for y, p in pi.items()))


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("n", "batch"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_log_z_and_kl_are_right_in_mean(beta: float, n: int, batch: int) -> None:
    """Here `max_draws` is hardly ever reached."""
    most = 12 if batch > 1 else 40 if n == 1 else 16
    decoder = Rejection(beta=beta, r_max=1.0, batch=batch, max_draws=most, return_kl=True)
    ends = runs(decoder, n)
    cut = math.fsum(p for p, end in ends if not end.results[-1].diagnostics(RejectionInfo).accepted)
    slack = EXACT + 20 * cut
    have = math.fsum(p * (end.results[0].diagnostics(RejectionInfo).log_z or 0.0) for p, end in ends)
    assert have == pytest.approx(log_z(beta), abs=slack)
    kl = laws.kl(laws.tilted(PI, WORTH, beta), PI)
    for i in range(n):
        mean = math.fsum(p * end.results[i].kl.nats for p, end in ends if end.results[i].kl is not None)  # type: ignore[union-attr]
        assert mean == pytest.approx(kl, abs=slack)
    if batch == n == 1:
        assert slack < 1e-6


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_under_a_loose_bound_it_is_that_of_the_runs_that_are_not_cut_off(batch: int) -> None:
    """log Z is psi(1) - psi(K) in mean over K, which is geometric up to `max_draws`, whatever the batch size."""
    most = 6
    ends = runs(Rejection(beta=1.0, r_max=1.5, batch=batch, max_draws=most))
    rate = math.exp(log_z(1.0) - 1.5)
    want = math.fsum(rate * (1 - rate) ** (k - 1) * float(digamma(1) - digamma(k)) for k in range(1, most + 1))
    have = math.fsum(
        p * ((e.results[0].diagnostics(RejectionInfo).log_z or 0.0) - 1.5)
        for p, e in ends
        if e.results[0].diagnostics(RejectionInfo).accepted
    )
    assert have == pytest.approx(want, abs=EXACT)


def test_under_guides_the_policy_that_is_tilted_is_the_guided_one() -> None:
    guided = TWO.completions(guides={"kind": 1.0})
    decoder = Rejection(beta=1.0, r_max=1.0, batch=1, max_draws=40, guides={"kind": 1.0}, return_kl=True)
    ends = runs(decoder)
    assert math.fsum(p * (e.results[0].diagnostics(RejectionInfo).log_z or 0.0) for p, e in ends) == pytest.approx(
        log_z(1.0, guided), abs=EXACT
    )
    mean = math.fsum(p * e.results[0].kl.nats for p, e in ends if e.results[0].kl is not None)
    assert mean == pytest.approx(laws.kl(laws.tilted(guided, WORTH, 1.0), PI), abs=EXACT)


def test_the_mean_of_the_weights_up_to_acceptance_was_too_great() -> None:
    """The mean weight of the draws, as an estimate of Z, is biased because a run stops at a success."""
    beta, kept = 0.25, {y: math.exp((WORTH[y] - 1.0) / 0.25) for y in PI}
    p = math.fsum(PI[y] * kept[y] for y in PI)
    good, bad = (y for y in sorted(PI, key=lambda y: -WORTH[y]))
    mean = 0.0
    for k in range(1, 200):
        refused = (PI[bad] * (1 - kept[bad])) ** (k - 1)
        for last in (good, bad):
            weights = [kept[bad]] * (k - 1) + [kept[last]]
            mean += refused * PI[last] * kept[last] * math.log(math.fsum(weights) / k)
    assert mean > math.log(p) + 0.05
    decoder = Rejection(beta=beta, r_max=1.0, batch=1, max_draws=60)
    have = math.fsum(q * (end.results[0].diagnostics(RejectionInfo).log_z or 0.0) for q, end in runs(decoder))
    assert have == pytest.approx(log_z(beta), abs=1e-6)


def by_definition(n: int, drawn: int, accepted: int, last: Sequence[float]) -> float:
    """Return E[psi(n) - psi(K)] over every order of the last batch and all coins that make it the last."""
    total = mass = 0.0
    for order in itertools.permutations(last):
        for coins in itertools.product((0, 1), repeat=len(order)):
            places = [i for i, coin in enumerate(coins, 1) if coin]
            if len(places) < n - accepted:
                continue
            p = math.prod(w if coin else 1 - w for w, coin in zip(order, coins, strict=True))
            k = drawn + places[n - accepted - 1]
            total, mass = total + p * float(digamma(n) - digamma(k)), mass + p
    return total / mass


@pytest.mark.parametrize("last", [[0.3], [0.2, 0.9], [0.5, 0.1, 0.01], [1.0, 0.0, 0.4, 0.4], [1.0, 1.0], [1e-9, 0.5]])
@pytest.mark.parametrize(("n", "drawn", "accepted"), [(1, 0, 0), (1, 5, 0), (2, 0, 0), (2, 3, 1), (3, 4, 2), (2, 1, 1)])
def test_the_estimate_is_the_digamma_one_averaged(last: list[float], n: int, drawn: int, accepted: int) -> None:
    if sum(w > 0 for w in last) >= n - accepted:
        assert log_rate(n, drawn, accepted, last) == pytest.approx(by_definition(n, drawn, accepted, last), abs=EXACT)


def test_a_wide_batch_is_no_trouble() -> None:
    assert log_rate(1, 0, 0, [0.5] * 256) == pytest.approx(math.log(0.5), abs=0.01)
    assert log_rate(100, 256, 77, [0.3] * 256) == pytest.approx(math.log(0.3), abs=0.05)
    assert log_rate(256, 0, 0, [1.0] * 256) == 0.0


def test_of_a_run_that_was_cut_off_it_is_the_mean_weight() -> None:
    decoder = Rejection(beta=1.0, r_max=9.0, batch=2, max_draws=2, reward="default")
    for _, end in runs(decoder):
        [result] = end.results
        if not result.diagnostics(RejectionInfo).accepted:
            mean = math.fsum(math.exp(s.total) for s in end.candidates) / 2
            assert result.diagnostics(RejectionInfo).log_z == pytest.approx(math.log(mean), abs=EXACT)


def test_what_max_draws_cuts_off_is_as_documented() -> None:
    """The mean over accepted runs is too great by .02 where `max_draws` is five times the mean number of draws."""
    for times, low, high in ((1.0, 0.6, 0.75), (5.0, 0.01, 0.025)):
        p = 0.01
        most = int(times / p)
        kept = [p * (1 - p) ** (k - 1) for k in range(1, most + 1)]
        mean = math.fsum(q * float(digamma(1) - digamma(k)) for k, q in enumerate(kept, 1)) / math.fsum(kept)
        assert low < mean - math.log(p) < high


def test_a_choice_among_accepted_answers_adds_to_it() -> None:
    proposal = Rejection(beta=1.0, r_max=1.0, batch=1, max_draws=8)
    decoder = BestOfN(n=2, proposal=proposal, return_kl=True)
    known = [end.results[0].kl for _, end in asyncio.run(every_path(bind(decoder, MODELS))) if isinstance(end, Done)]
    assert {kl.estimator for kl in known if kl} == {"order_statistic_bound+tilt_log_ratio"}
