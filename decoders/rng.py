"""All the randomness of one request, from one seed."""

import random
from collections.abc import Sequence
from copy import copy

from decoders.maths.logmath import normalise

SEED_BITS = 62  # an engine adds the index of a sample to its seed, and must not overflow 64 bits
ENGINE_RANDOM = -1  # the seed that vLLM reads as none


class SeededRng:
    """The randomness of a served request, reproducible where the request has a seed.

    Every engine call gets a seed of its own, derived from the request's seed, the stream (one for each of a request's
    prompts) and the calls before it. The engine gives the j-th of n samples the seed s + j, so requests with
    neighbouring seeds would otherwise share most of their samples. Only `plain` randomness hands out the request's own
    seed.
    """

    def __init__(self, seed: int | None = None, stream: int = 0) -> None:
        self._random = random.Random(None if seed is None else f"{seed}/{stream}")
        self._seeded = seed is not None
        self._own = seed if stream == 0 and seed != ENGINE_RANDOM else None
        self._keeps = False

    def draw(self, log_weights: Sequence[float]) -> int:
        return self._random.choices(range(len(log_weights)), normalise(log_weights))[0]

    def fork(self) -> "SeededRng":
        child = SeededRng(self._random.getrandbits(SEED_BITS) if self._seeded else None)
        child._own = None
        return child

    def plain(self) -> "SeededRng":
        twin = copy(self)
        twin._keeps = True
        return twin

    def seed(self) -> int | None:
        if not self._seeded:
            return None
        derived = self._random.getrandbits(SEED_BITS)
        return self._own if self._keeps and self._own is not None else derived
