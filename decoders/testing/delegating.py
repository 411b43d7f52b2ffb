"""A policy that passes every call on to another: a test's own policy is a subclass that overrides one method."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.policy import Policy, TokenLaw
from decoders.testing.toy import ToyPolicy


@dataclass(kw_only=True)
class DelegatingPolicy:
    """A policy that does what `inner` does; by default that is the toy without guides."""

    inner: Policy = field(default_factory=ToyPolicy)
    name: str = "toy"

    @property
    def guides(self) -> Mapping[str, str]:
        return self.inner.guides

    def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        return self.inner.sample(prompt, n, sampling, rng, pieces=pieces)

    def extend(
        self, prompt: Prompt, prefix: Candidate, n: int, tokens: int, sampling: Sampling, rng: Rng, **more: Any
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        return self.inner.extend(prompt, prefix, n, tokens, sampling, rng, **more)

    def check_entropy_stop(self, sampling: Sampling) -> None:
        self.inner.check_entropy_stop(sampling)

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        return await self.inner.logprob(prompt, completion, law)
