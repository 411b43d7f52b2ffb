"""Rewards of the toy's completions: one is a sum over words, the other counts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoders.core import Candidate, Prompt, Tokens
from decoders.testing.toy_table import EOS


@dataclass(frozen=True)
class ToyReward:
    """A linear reward: the sum of each word's worth. Equal sums tie, as real rewards may."""

    worth: Sequence[float] = (0.0, 1.0, -1.0, 0.25, 0.25)
    scores_all: ClassVar[bool] = True

    def of(self, tokens: Tokens) -> float:
        """Return the reward of a completion's tokens."""
        return math.fsum(self.worth[t] for t in tokens)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [self.of(c.tokens) for c in completions]


@dataclass(frozen=True)
class ToyBrevity:
    """Minus the number of words: a second objective, at odds with the first."""

    per_word: float = 1.0
    scores_all: ClassVar[bool] = True

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [-self.per_word * sum(t != EOS for t in c.tokens) for c in completions]
