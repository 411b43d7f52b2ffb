"""A memoryless policy with a linear reward, where every law has a closed form [Yang et al. 2024, "Asymptotics"].

Tokens are iid and the reward sums their worth, so pi* is an iid tilt, the worth itself is the soft value of a token up
to a constant, and a search over blocks of one token is a search over tokens.
"""

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from decoders import (
    STRATEGIES,
    BestOfN,
    Cascade,
    Controlled,
    Particles,
    Rejection,
    RewardGuided,
    Sample,
    SpeculativeRejection,
)
from decoders.base import Decoder
from decoders.core import Sampling, Tokens
from decoders.maths.transforms import Identity
from decoders.models import Models
from decoders.particles import ParticlesInfo
from decoders.parts.selection import Softmax
from decoders.rejection import RejectionInfo
from decoders.testing import ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, law, mean
from tests.support import laws

EXACT = 1e-9
TOKENS = {1: 0.5, 2: 0.3, 3: 0.2}  # the end of sequence never comes
WORTH = {1: 0.0, 2: 0.5, 3: 1.2}
BETA = 0.8
TWO = Sampling(max_tokens=2)


class Memoryless(ToyPolicy):
    def logprobs(self, prompt: Tokens, prefix: Tokens) -> list[float]:  # noqa: ARG002
        return [-math.inf, *(math.log(p) for p in TOKENS.values())]


class Values(ToyGuide):
    """The worth of the next token: its soft value up to a constant that all next tokens share."""

    def logits(self, prefix: Tokens, vocabulary: int) -> list[float]:  # noqa: ARG002
        return [0.0, *WORTH.values()]


POLICY = Memoryless(vocabulary=4, loaded={"q": Values(kind="q_head")})
MODELS = Models(POLICY, {"default": ToyReward((0.0, *WORTH.values()))})
TILTED = laws.tilted(TOKENS, WORTH, BETA)


def iid(tokens: Mapping[int, float], length: int = 2) -> dict[Tokens, float]:
    return {y: math.prod(tokens[t] for t in y) for y in itertools.product(tokens, repeat=length)}


PI, STAR = iid(TOKENS), iid(TILTED)
SUM = {y: sum(WORTH[t] for t in y) for y in PI}


def best_token(k: int, tokens: Mapping[int, float] = TOKENS) -> dict[int, float]:
    return laws.order_statistic(tokens, WORTH, k)


def survivor() -> dict[Tokens, float]:
    """Return the law of two answers, of which the one with the better first token goes on to any second token."""
    return {(a, b): p * TOKENS[b] for a, p in best_token(2).items() for b in TOKENS}


CLOSED: list[tuple[Decoder, dict[Tokens, float]]] = [
    (Sample(), PI),
    (RewardGuided(guides={"q": 1 / BETA}), STAR),
    (BestOfN(n=3), laws.order_statistic(PI, SUM, 3)),
    (BestOfN(n=2, select=Softmax(beta=BETA)), laws.chosen(PI, 2, laws.by(SUM, laws.boltzmann(BETA)))),
    (Controlled(candidates=3, block_tokens=1), iid(best_token(3))),
    (
        Controlled(candidates=2, block_tokens=1, select=Softmax(beta=BETA)),
        iid(laws.chosen(TOKENS, 2, laws.by(WORTH, laws.boltzmann(BETA)))),
    ),
    (Controlled(candidates=2, block_tokens=2), laws.order_statistic(PI, SUM, 2)),
    (Particles(particles=2, block_tokens=2, beta=BETA), laws.chosen(PI, 2, laws.by(SUM, laws.boltzmann(BETA)))),
    (SpeculativeRejection(n=2, checkpoints=[1]), survivor()),
    (SpeculativeRejection(n=2, checkpoints=[1], keep=1.0), laws.order_statistic(PI, SUM, 2)),
    # Compositions: the best of two answers of the optimum, and the best of two tokens of it at each step.
    (BestOfN(n=2, proposal=RewardGuided(guides={"q": 1 / BETA})), laws.order_statistic(STAR, SUM, 2)),
    (Controlled(candidates=2, block_tokens=1, guides={"q": 1 / BETA}), iid(best_token(2, TILTED))),
]


@pytest.mark.parametrize(
    ("decoder", "want"), CLOSED, ids=[f"{i} {d.model_dump()['strategy']}" for i, (d, _) in enumerate(CLOSED)]
)
def test_closed_forms(decoder: Decoder, want: dict[Tokens, float]) -> None:
    assert asyncio.run(law(bind(decoder, MODELS, TWO))) == pytest.approx(want, abs=EXACT)


def accepted(decoder: Decoder) -> dict[Tokens, float]:
    """Return the law of accepted answers."""
    out: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in asyncio.run(every_path(bind(decoder, MODELS, TWO))):
        [result] = done(end).results
        if result.diagnostics(RejectionInfo).accepted:
            out[result.candidate.tokens] += p
    mass = math.fsum(out.values())
    return {y: p / mass for y, p in out.items()}


def test_rejection_samples_the_optimum() -> None:
    assert accepted(Rejection(r_max=2.4, beta=BETA, batch=2, max_draws=2)) == pytest.approx(STAR, abs=EXACT)


@pytest.mark.parametrize("ess", [0.0, 1.0])
def test_particles_estimate_z_without_bias(ess: float) -> None:
    """Z of an answer is the T-th power of a token's Z."""
    z = math.fsum(p * math.exp(WORTH[t] / BETA) for t, p in TOKENS.items()) ** 2
    decoder = Particles(particles=2, block_tokens=1, beta=BETA, ess_threshold=ess)
    ends = asyncio.run(every_path(bind(decoder, MODELS, TWO)))
    assert mean(ends, lambda d: math.exp(d.results[0].diagnostics(ParticlesInfo).log_z or 0.0)) == pytest.approx(
        z, abs=EXACT
    )


def test_particles_that_resample_at_each_token_come_nearer_than_whole_ones() -> None:
    decoder = Particles(particles=2, block_tokens=1, beta=BETA, ess_threshold=1.0)
    have = asyncio.run(law(bind(decoder, MODELS, TWO)))
    far = laws.total_variation(have, STAR)
    assert far < laws.total_variation(laws.chosen(PI, 2, laws.by(SUM, laws.boltzmann(BETA))), STAR)


def test_a_cascade_accepts_each_token_in_proportion() -> None:
    """At a constant threshold above all rewards, the accepted part of a token's law is the tilt, after any prefix."""
    top, tries = 2.4, 2
    decoder = Cascade(
        entropy_threshold=0.0, accept_threshold=top, accept_start=top, beta=BETA, max_tries=tries, min_segment_tokens=1
    )
    want: defaultdict[Tokens, float] = defaultdict(float)
    todo: list[tuple[Tokens, float]] = [((), 1.0)]
    while todo:
        y, p = todo.pop()
        if len(y) == 2:
            want[y] += p
            continue
        prefix = sum(WORTH[t] for t in y)
        accept = {t: math.exp((prefix + WORTH[t] - top) / BETA) for t in TOKENS}
        once = math.fsum(TOKENS[t] * accept[t] for t in TOKENS)
        refused = {t: TOKENS[t] * (1 - accept[t]) / (1 - once) for t in TOKENS}
        none = (1 - once) ** tries
        token = {t: (1 - none) * TILTED[t] + none * q for t, q in laws.order_statistic(refused, WORTH, tries).items()}
        todo += [((*y, t), p * q) for t, q in token.items()]
    assert asyncio.run(law(bind(decoder, MODELS, TWO))) == pytest.approx(want, abs=EXACT)


def test_a_calibrated_tilt_of_the_memoryless_policy_given_its_rollout() -> None:
    have = accepted(Rejection(calibrated=True, rollouts=1, transform=Identity(), beta=0.5, batch=1, max_draws=1))
    want: defaultdict[Tokens, float] = defaultdict(float)
    for z, share in PI.items():
        for y, p in PI.items():
            want[y] += share * p * math.exp((laws.quantile(SUM[y], [SUM[z]]) - 1) / 0.5)
    mass = math.fsum(want.values())
    assert have == pytest.approx({y: v / mass for y, v in want.items()}, abs=EXACT)


def test_the_divergence_of_the_tilt_grows_with_length() -> None:
    token = laws.kl(TILTED, TOKENS)
    for length in (1, 2, 3):
        assert laws.kl(iid(TILTED, length), iid(TOKENS, length)) == pytest.approx(length * token, abs=EXACT)
    decoder = Rejection(r_max=2.4, beta=BETA, batch=1, max_draws=1, return_kl=True)
    for _, end in asyncio.run(every_path(bind(decoder, MODELS, TWO))):
        [result] = done(end).results
        info = result.diagnostics(RejectionInfo)
        assert (result.kl is not None) == info.accepted
        if result.kl is None:
            continue
        assert info.log_z is not None
        assert result.kl.nats == pytest.approx(SUM[result.candidate.tokens] / BETA - info.log_z)


def test_every_strategy_has_its_law_here() -> None:
    seen: set[Any] = {type(decoder) for decoder, _ in CLOSED} | {Rejection, Cascade}
    assert seen == set(STRATEGIES)
