"""The frozen policy as a strategy sees it.

It is a protocol, so that a strategy runs unchanged on an exact toy, where its law is enumerated, and on vLLM, where it
is served.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from decoders.core import Candidate, Prompt, Rng, Sampling


@dataclass(frozen=True, slots=True)
class EntropyStop:
    """Where a block ends by itself: before the first token, after `min_tokens` of them, that is uncertain enough.

    That is where the entropy of the next-token law over the whole vocabulary is at least `entropy` nats. The law is the
    one whose log-probabilities are reported: with guides, and without temperature, truncation and biases.
    """

    entropy: float
    min_tokens: int = 1


@dataclass(frozen=True, slots=True)
class TokenLaw:
    """A next-token law to score a completion by: p(v) ~ pi(v)^policy prod_i pi_i(v)^guides[i]."""

    policy: float = 1.0
    guides: Mapping[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """The frozen language model, with the guides that are loaded beside it."""

    @property
    def name(self) -> str: ...

    @property
    def guides(self) -> Mapping[str, str]:
        """The kind of each loaded guide: arm, implicit or q_head."""

    def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        """Draw `n` completions together; yield (index, completion) as each one finishes.

        With `pieces`, yield (index, piece) as the pieces are made; the last piece of each completion has its `finish`.
        Closing the generator stops the work. `sampling.n` is not read. With `sampling.max_tokens` 0 nothing is drawn:
        the completions are empty, and have the prompt's log-probabilities where the sampling asks for them.
        """

    def extend(
        self,
        prompt: Prompt,
        prefix: Candidate,
        n: int,
        tokens: int,
        sampling: Sampling,
        rng: Rng,
        *,
        stop_block: Sequence[str] = (),
        entropy_stop: EntropyStop | None = None,
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        """Draw `n` continuations of an unfinished answer; yield (index, answer, drawn) as each one finishes.

        The answer is `prefix` with the continuation. Its text is that of all its tokens, cut at a stop string wherever
        that began, and its `finish` is None where it may be continued. `drawn` counts the tokens generated for it,
        those behind a stop string included.

        Args:
            prompt: The prompt of the answer.
            prefix: The answer so far.
            n: The number of continuations.
            tokens: The most tokens of a continuation.
            sampling: How to sample; `max_tokens` bounds the whole answer.
            rng: The source of the engine's seed.
            stop_block: Strings that end a continuation, and stay in it.
            entropy_stop: Where a continuation ends before an uncertain token.
        """

    def check_entropy_stop(self, sampling: Sampling) -> None:
        """Raise `InvalidRequest` where `extend` cannot take an `entropy_stop` with this sampling."""

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        """Return sum_t log p(y_t | prompt, y_<t) under `law`, in nats."""
