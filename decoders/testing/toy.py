"""The toy policy: the toy's tables behind the `Policy` protocol, drawn from token by token."""

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from decoders.core import (
    EMPTY,
    Alternative,
    Candidate,
    Prompt,
    Rng,
    Sampling,
    TokenLogprob,
    Tokens,
    join,
)
from decoders.policy import EntropyStop, TokenLaw
from decoders.testing.toy_table import EOS, WORDS, ToyTable


@dataclass(frozen=True)
class ToyPolicy(ToyTable):
    """An exact tabular policy. Every token takes one `rng.draw`, so that an `Rng` can enumerate its completions."""

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        tokens = completion.tokens
        return math.fsum(self.guided(prompt.tokens, tokens[:i], law)[token] for i, token in enumerate(tokens))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        for i in range(n):
            if sampling.max_tokens == 0:
                yield i, replace(EMPTY, finish="length")
                continue
            whole = EMPTY
            while whole.finish is None:
                piece = self._draw(prompt.tokens, whole.tokens, sampling, rng)
                whole = join([whole, piece])
                if pieces:
                    yield i, piece
            if not pieces:
                yield i, whole

    async def extend(
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
        for i in range(n):
            whole, drawn = prefix, 0
            while whole.finish is None and drawn < tokens:
                if (
                    entropy_stop
                    and drawn >= entropy_stop.min_tokens
                    and self.entropy(prompt.tokens, whole.tokens, sampling) >= entropy_stop.entropy
                ):
                    break
                whole, drawn = join([whole, self._draw(prompt.tokens, whole.tokens, sampling, rng)]), drawn + 1
                if any(whole.text.endswith(end) for end in stop_block):
                    break
            yield i, whole, drawn

    def check_entropy_stop(self, sampling: Sampling) -> None:
        """Accept any sampling."""

    def _draw(self, prompt: Tokens, before: Tokens, sampling: Sampling, rng: Rng) -> Candidate:
        """Draw the next token."""
        token = rng.draw(self.law(prompt, before, sampling))
        full = len(before) + 1 == sampling.max_tokens
        return Candidate(
            (token,),
            WORDS[token],
            "stop" if token == EOS else "length" if full else None,
            logprobs=self._logprob(prompt, before, token, sampling),
        )

    def _logprob(
        self, prompt: Tokens, prefix: Tokens, token: int, sampling: Sampling
    ) -> tuple[TokenLogprob, ...] | None:
        if sampling.logprobs is None:
            return None
        logprobs = self.guided(prompt, prefix, TokenLaw(guides=sampling.guides))
        ranked = sorted((v for v in range(self.vocabulary) if logprobs[v] > -math.inf), key=lambda v: -logprobs[v])
        best = [v for i, v in enumerate(ranked) if i < sampling.logprobs or v == token]
        top = tuple(Alternative(v, WORDS[v], logprobs[v], WORDS[v].encode()) for v in best)
        return (TokenLogprob(token, WORDS[token], logprobs[token], WORDS[token].encode(), top),)
