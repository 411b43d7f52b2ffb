"""Particles on the exact toy: the law of small populations, the unbiased Z, and convergence to the tilted law."""

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import pytest

from decoders import Particles
from decoders.core import Sampling, Tokens
from decoders.errors import NoUsableReward
from decoders.maths.resampling import effective_sample_size, systematic
from decoders.models import Models
from decoders.particles import ParticlesInfo
from decoders.rng import SeededRng
from decoders.testing import EnumeratingRng, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, law
from tests.support import laws
from tests.support.fakes import giving

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})
MODELS = Models(POLICY, {"default": ToyReward()})
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}


def z_of(beta: float) -> float:
    return math.fsum(p * math.exp(WORTH[y] / beta) for y, p in PI.items())


@pytest.mark.parametrize("beta", [0.5, 2.0])
@pytest.mark.parametrize("ess", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("block", [1, 3])
def test_the_estimate_of_z_is_unbiased(beta: float, ess: float, block: int) -> None:
    decoder = Particles(particles=2, block_tokens=block, beta=beta, ess_threshold=ess)
    ends = asyncio.run(every_path(bind(decoder, MODELS)))
    mean = math.fsum(p * math.exp(done(end).results[0].diagnostics(ParticlesInfo).log_z or 0.0) for p, end in ends)
    assert mean == pytest.approx(z_of(beta), abs=EXACT)


def test_one_particle_is_the_policy() -> None:
    assert asyncio.run(law(bind(Particles(particles=1, block_tokens=1), MODELS))) == pytest.approx(PI, abs=EXACT)


@pytest.mark.parametrize("n", [2, 3])
def test_one_block_for_all_is_softmax_best_of_n(n: int) -> None:
    decoder = Particles(particles=n, block_tokens=16, beta=0.5)
    want = laws.chosen(PI, n, laws.by(WORTH, laws.boltzmann(0.5)))
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_without_resampling_blocks_change_nothing() -> None:
    decoder = Particles(particles=2, block_tokens=1, beta=0.5, ess_threshold=0.0)
    want = laws.chosen(PI, 2, laws.by(WORTH, laws.boltzmann(0.5)))
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_resampling_moves_the_law_towards_the_tilted_one() -> None:
    tilted = laws.tilted(PI, WORTH, 0.7)
    far = [
        laws.total_variation(
            asyncio.run(law(bind(Particles(particles=count, block_tokens=1, beta=0.7, ess_threshold=1.0), MODELS))),
            tilted,
        )
        for count in (1, 2, 3)
    ]
    assert far == sorted(far, reverse=True)
    assert far[2] < 0.6 * far[0]


def test_many_particles_sample_the_tilted_law() -> None:
    """A simulation of 600 runs with 32 particles, against the standard deviation of the frequencies."""
    decoder = Particles(particles=32, block_tokens=1, beta=0.7)
    tilted = laws.tilted(PI, WORTH, 0.7)

    async def count(runs: int) -> dict[Tokens, int]:
        seen: defaultdict[Tokens, int] = defaultdict(int)
        for seed in range(runs):
            async for event in bind(decoder, MODELS)(SeededRng(seed)):
                last = event
            seen[done(last).results[0].candidate.tokens] += 1  # type: ignore[arg-type]
        return seen

    runs = 600
    seen = asyncio.run(count(runs))
    for y, p in tilted.items():
        assert abs(seen[y] / runs - p) < 5 * math.sqrt(p * (1 - p) / runs) + 0.02


def test_a_guided_policy_is_tilted_in_its_turn() -> None:
    decoder = Particles(particles=2, block_tokens=3, beta=0.5, guides={"kind": 1.0})
    guided = POLICY.completions(guides={"kind": 1.0})
    want = laws.chosen(guided, 2, laws.by(WORTH, laws.boltzmann(0.5)))
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.1, 0.9], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
def test_systematic_resampling_keeps_each_in_proportion(weights: Sequence[float]) -> None:
    """A particle has P w_p children in mean, and never differs from that by one or more."""
    count = len(weights)
    children = [0.0] * count
    todo: list[tuple[int, ...]] = [()]
    while todo:
        rng = EnumeratingRng(todo.pop())
        parents = systematic(weights, rng)
        todo += rng.passed_by
        for p in range(count):
            own = parents.count(p)
            assert abs(own - count * weights[p]) < 1
            children[p] += rng.probability * own
    assert children == pytest.approx([count * w for w in weights], abs=EXACT)


@pytest.mark.parametrize("weights", list(itertools.product([0.5, 1.0, 3.0], repeat=2)))
def test_effective_sample_size(weights: tuple[float, ...]) -> None:
    want = sum(weights) ** 2 / sum(w * w for w in weights)
    assert effective_sample_size([math.log(w) for w in weights]) == pytest.approx(want)


def test_several_results_are_several_populations() -> None:
    models = Models(ToyPolicy(3, 2), MODELS.rewards)
    decoder = Particles(particles=2, block_tokens=1, beta=0.7)
    alone = asyncio.run(law(bind(decoder, models)))
    pairs: defaultdict[tuple[Tokens, ...], float] = defaultdict(float)
    for p, end in asyncio.run(every_path(bind(decoder, models, Sampling(n=2)))):
        pairs[tuple(r.candidate.tokens for r in done(end).results)] += p
    for (a, b), p in pairs.items():
        assert p == pytest.approx(alone[a] * alone[b], abs=EXACT)


def test_without_a_finite_reward_it_fails() -> None:
    models = Models(ToyPolicy(3, 2), {"default": giving(math.nan)})
    ends = asyncio.run(every_path(bind(Particles(particles=2), models)))
    assert all(isinstance(end, NoUsableReward) for _, end in ends)
