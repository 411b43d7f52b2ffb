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


def test_the_first_engine_call_gets_the_requests_own_seed() -> None:
    rng, twin = SeededRng(7), SeededRng(7)
    seeds = [rng.seed() for _ in range(5)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 5
    assert all(s is not None and 0 <= s < 2**SEED_BITS for s in seeds)
    assert seeds == [twin.seed() for _ in range(5)]


def test_streams_of_one_seed_are_apart_and_only_the_first_has_the_seed_itself() -> None:
    first, second = SeededRng(7, stream=0), SeededRng(7, stream=1)
    assert first.seed() == 7 != second.seed()
    draws = [[rng.draw([0.0] * 10) for _ in range(20)] for rng in (first, second, SeededRng(7, stream=2))]
    assert draws[0] != draws[1] != draws[2] != draws[0]


def test_zero_is_a_seed() -> None:
    assert SeededRng(0).seed() == 0


def test_without_a_seed_the_engine_gets_none() -> None:
    rng = SeededRng()
    assert rng.seed() is None
    assert rng.seed() is None
