"""A request's randomness, from its seed."""

import math
from collections import Counter

import pytest

from decoders.rng import SEED_BITS, SeededRng


def test_draws_follow_the_weights_and_never_a_zero_one() -> None:
    rng = SeededRng(0)
    weights = [math.log(0.5), -math.inf, math.log(0.3), math.log(0.2), -math.inf]
    size = 20_000
    seen = Counter(rng.draw([w + 700 for w in weights]) for _ in range(size))
    assert set(seen) == {0, 2, 3}
    for i in seen:  # five standard deviations
        assert seen[i] / size == pytest.approx(math.exp(weights[i]), abs=5 * 0.5 / math.sqrt(size))


def test_a_seed_fixes_all_draws() -> None:
    def draws(seed: int) -> list[int]:
        rng = SeededRng(seed)
        return [rng.draw([0.0] * 10) for _ in range(20)]

    assert draws(1) == draws(1) != draws(2)


def seeds(rng: SeededRng, count: int = 5) -> list[int | None]:
    return [rng.seed() for _ in range(count)]


def test_engine_calls_get_seeds_derived_from_the_requests() -> None:
    seen = seeds(SeededRng(7))
    assert 7 not in seen
    assert len(set(seen)) == 5
    assert all(s is not None and 0 <= s < 2**SEED_BITS for s in seen)
    assert seen == seeds(SeededRng(7))


def test_neighbouring_seeds_share_no_samples() -> None:
    """An engine gives sample j of n the seed s + j, so that neighbouring seeds could share samples."""
    engine = [
        {s + j for j in range(256)} for request in range(-8, 9) for s in seeds(SeededRng(request)) if s is not None
    ]
    assert len(set.union(*engine)) == len(engine) * 256


def test_a_plain_draw_of_one_keeps_the_requests_own_seed() -> None:
    for seed in (0, 7, -2, -(2**63), 2**63 - 1):
        assert SeededRng(seed).plain().seed() == seed
    assert SeededRng(7, stream=1).plain().seed() != 7
    assert SeededRng(7).fork().plain().seed() != 7


def test_a_seed_that_vllm_reads_as_none_is_a_seed_all_the_same() -> None:
    own = [SeededRng(-1).plain().seed() for _ in range(2)]
    assert own[0] == own[1] != -1
    assert own[0] is not None


def test_streams_of_one_seed_are_apart() -> None:
    engine = [tuple(seeds(SeededRng(7, stream=i))) for i in range(3)]
    assert len(set(engine)) == 3
    draws = [[rng.draw([0.0] * 10) for _ in range(20)] for rng in (SeededRng(7, stream=i) for i in range(3))]
    assert draws[0] != draws[1] != draws[2] != draws[0]


def test_without_a_seed_the_engine_gets_none() -> None:
    rng = SeededRng()
    assert seeds(rng) == [None] * 5
    assert rng.plain().seed() is None
