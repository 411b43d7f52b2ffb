"""Randomness of one request, from one seed."""

import random
from collections.abc import Sequence

from decoders.weights import normalise

SEED_BITS = 62  # an engine adds the index of a sample to its seed, and must not overflow 64 bits


class SeededRng:
    """The randomness of a served request: reproducible when the request brings a seed.

    The first engine call of stream 0 gets the request's own seed, so that a plain sample is the one the engine alone
    would give for that seed; later calls, and other streams (a request's further prompts), get seeds derived from it.
    """

    def __init__(self, seed: int | None = None, stream: int = 0) -> None:
        self._random = random.Random(None if seed is None else f"{seed}/{stream}")
        self._seeded = seed is not None
        self._first = seed if stream == 0 else None

    def draw(self, log_weights: Sequence[float]) -> int:
        return self._random.choices(range(len(log_weights)), normalise(log_weights))[0]

    def fork(self) -> "SeededRng":
        """A child with a seed of its own; it leaves the request's own seed to its parent."""
        child = SeededRng(self._random.getrandbits(SEED_BITS) if self._seeded else None)
        child._first = None
        return child

    def seed(self) -> int | None:
        if not self._seeded:
            return None
        first, self._first = self._first, None
        return self._random.getrandbits(SEED_BITS) if first is None else first
