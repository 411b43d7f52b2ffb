"""Tilting by a transformed quantile, down to the narrowest mass, against closed forms and quadrature."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import exp1, expi

from decoders.maths.transforms import Exponential, Identity, Log, expected_draws, tilt_kl

betas = st.floats(math.log(1e-18), math.log(1e6)).map(math.exp)


def by_parts(phi: Exponential, beta: float) -> tuple[float, float]:
    """Return Z and KL, integrated in the variable v = (Phi(1) - Phi(u)) / beta, in which the mass is never narrow."""
    sign, top = math.copysign(1.0, phi.t), math.exp(phi.t)
    upto = min(phi.drop(1.0) / beta, 700.0)

    def slope(v: float) -> float:
        """Return |du / dv|."""
        return beta / (abs(phi.t) * (top - sign * beta * v))

    z, _ = quad(lambda v: math.exp(-v) * slope(v), 0, upto, epsabs=0, epsrel=1e-10, limit=500)
    m, _ = quad(lambda v: -v * math.exp(-v) * slope(v), 0, upto, epsabs=0, epsrel=1e-10, limit=500)
    return z, m / z - math.log(z)


@settings(deadline=None)
@given(betas)
def test_identity_is_its_closed_form(beta: float) -> None:
    z = -beta * math.expm1(-1 / beta)
    kl = -1 + math.exp(-1 / beta) / z - math.log(z)
    assert expected_draws(Identity(), beta) == pytest.approx(1 / z, rel=1e-12)
    assert tilt_kl(Identity(), beta) == pytest.approx(kl, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(betas)
def test_log_is_its_closed_form(beta: float) -> None:
    """The tilt by log u / beta is the best of 1 + 1/beta."""
    a = 1 / beta
    assert expected_draws(Log(), beta) == pytest.approx(1 + a, rel=1e-12)
    assert tilt_kl(Log(), beta) == pytest.approx(math.log1p(a) - a / (1 + a), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("beta", [1e-9, 1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("t", [0.5, 2.0, 3.0])
def test_exponential_is_an_exponential_integral(t: float, beta: float) -> None:
    """With x = e^(tu) / beta the mass is (Ei(e^t / beta) - Ei(1 / beta)) / t, of exp(+x); for -t it is E1's."""
    top = math.exp(t)
    if top / beta < 600:
        z = (expi(top / beta) - expi(1 / beta)) / t * math.exp(-top / beta)
        assert expected_draws(Exponential(t=t), beta) == pytest.approx(1 / z, rel=1e-9)
        z = (exp1(math.exp(-t) / beta) - exp1(1 / beta)) / t * math.exp(math.exp(-t) / beta)
        assert expected_draws(Exponential(t=-t), beta) == pytest.approx(1 / z, rel=1e-9)
    for phi in (Exponential(t=t), Exponential(t=-t)):
        z, kl = by_parts(phi, beta)
        assert expected_draws(phi, beta) == pytest.approx(1 / z, rel=1e-8)
        assert tilt_kl(phi, beta) == pytest.approx(kl, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("t", [-50.0, -10.0, 10.0, 50.0])
@pytest.mark.parametrize("beta", [1e-12, 1e-3])
def test_narrow_mass_is_an_exponential_at_the_top(t: float, beta: float) -> None:
    """Phi falls by |t| e^t from 1 on, so the mass is w = beta / (|t| e^t) wide, at -log w - 1 nats from the policy."""
    width = beta / (abs(t) * math.exp(t))
    if width < 1e-6:
        assert expected_draws(Exponential(t=t), beta) == pytest.approx(1 / width, rel=1e-4)
        assert tilt_kl(Exponential(t=t), beta) == pytest.approx(-math.log(width) - 1, abs=1e-4)


@settings(deadline=None)
@given(betas, st.floats(-50, 50) | st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e-300, 50.0, -50.0]))
def test_every_tilt_has_a_finite_divergence_of_at_most_the_logarithm_of_its_draws(beta: float, t: float) -> None:
    for phi in (Identity(), Log(), Exponential(t=t)):
        draws, kl = expected_draws(phi, beta), tilt_kl(phi, beta)
        assert 1 - 1e-12 <= draws < math.inf
        assert 0 <= kl <= math.log(draws) + 1e-9


@settings(deadline=None)
@given(st.floats(1e-6, 1.0), st.floats(-20, 20))
def test_a_drop_is_the_difference_from_the_top(d: float, t: float) -> None:
    for phi in (Identity(), Log(), Exponential(t=t)):
        if isinstance(phi, Log) and d == 1.0:
            continue
        assert phi.drop(d) == pytest.approx(phi(1.0) - phi(1.0 - d), rel=1e-6, abs=1e-7 * math.exp(abs(t)))
