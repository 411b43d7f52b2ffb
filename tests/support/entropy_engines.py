"""Engines of a policy with a large vocabulary, plain and guided, and their reference."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from decoders.core import Candidate, Prompt, Sampling, Tokens
from decoders.policy import EntropyStop
from decoders.rng import SeededRng
from server.engines.policy import VllmPolicy
from server.loading import Loaded
from tests.support.reference import Reference

T = TypeVar("T")
PROMPTS = [(5, 900, 31, 40_000), (7, 7, 300)]
ways = pytest.mark.parametrize("guides", [{}, {"weak": 0.7}], ids=["plain", "guided"])


@dataclass
class Engines:
    """The policy on engines of its own, and what Transformers says of it."""

    loaded: Loaded
    reference: Reference
    runner: "asyncio.Runner"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def policy(self) -> VllmPolicy:
        policy = self.loaded.models.policy
        assert isinstance(policy, VllmPolicy)
        return policy

    def entropies(self, prompt: Tokens, drawn: Tokens, guides: dict[str, float]) -> list[float]:
        """Of the law of each of `drawn`, in nats."""
        laws = self.reference.law([*prompt, *drawn], guides)[len(prompt) - 1 : -1].double()
        return [-float((row.exp() * row).sum()) for row in laws]

    async def grow(
        self, prompt: Tokens, prefix: Candidate, tokens: int, sampling: Sampling, entropy_stop: EntropyStop
    ) -> Candidate:
        """One continuation; what it took is all in it."""
        grown = self.policy.extend(
            Prompt(prompt, ""), prefix, 1, tokens, sampling, SeededRng(1), entropy_stop=entropy_stop
        )
        async with aclosing(grown) as samples:
            async for _, whole, drawn in samples:
                assert drawn == len(whole.tokens) - len(prefix.tokens)
        return whole
