"""Segments of an answer up to an `EntropyStop`: drawn by engine requests with a threshold, and freed of signals."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from decoders.core import Candidate, Prompt, Rng, Sampling, Tokens, join
from decoders.parts.concurrency import as_done
from decoders.policy import EntropyStop
from server.engines.entropy.request_args import EntropyArgs, Signals

Draw = Callable[[Prompt, int, Sampling, int | None, EntropyArgs | None, bool], AsyncGenerator[tuple[int, Candidate]]]
"""(prompt, n, sampling, seed, args, pieces): as `Policy.sample`, by one engine request, without stop strings."""


@dataclass(frozen=True)
class Segments:
    """Segments after `prompt` of at most `sampling.max_tokens` tokens, fewer where `entropy_stop` says so.

    A segment's `finish` is "stop" where a token ends the answer, and "length" otherwise.
    """

    draw: Draw
    prompt: Prompt
    sampling: Sampling
    entropy_stop: EntropyStop
    signals: Signals

    async def sample(self, n: int, rng: Rng) -> AsyncGenerator[tuple[int, Candidate]]:
        """Yield (index, segment) of `n`: by one engine request, and further ones for each that meets a collision."""
        prefix: dict[int, Candidate] = {}
        async with aclosing(self._request(n, rng.seed(), pieces=False)) as samples:
            async for i, segment in samples:
                if segment.finish is None:
                    prefix[i] = segment
                else:
                    yield i, segment
        order = sorted(prefix)  # `rng` forks in this order, whichever segment ended first
        async with aclosing(as_done([self._continue(prefix[i], rng.fork()) for i in order])) as done:
            async for j, segment in done:
                yield order[j], segment

    async def pieces(self, rng: Rng, *, collides: bool = False) -> AsyncGenerator[Candidate]:
        """Yield one segment in pieces, the last with a `finish`; `collides` says that it starts at a collision."""
        left = self
        while True:
            drawn: Tokens = ()
            block = left._past_collision(rng.seed()) if collides else left._request(1, rng.seed(), pieces=True)
            async with aclosing(block) as samples:
                async for _, piece in samples:
                    yield piece
                    if piece.finish is not None:
                        return
                    drawn += piece.tokens
            left, collides = left._after(drawn), not collides

    async def _continue(self, prefix: Candidate, rng: Rng) -> Candidate:
        """Return the whole segment of which `prefix` was drawn before a collision."""
        async with aclosing(self._after(prefix.tokens).pieces(rng, collides=True)) as pieces:
            return join([prefix, *[piece async for piece in pieces]])

    async def _request(self, n: int, seed: int | None, *, pieces: bool) -> AsyncGenerator[tuple[int, Candidate]]:
        """Yield segments, or their pieces, by one request; before a collision, the last piece has no `finish`."""
        stop = self.entropy_stop
        args = EntropyArgs(stop.entropy, stop.min_tokens, self.sampling.min_tokens, self.signals)
        async with aclosing(self.draw(self.prompt, n, self.sampling, seed, args, pieces)) as samples:
            async for i, drawn in samples:
                yield i, _without_signal(drawn, self.signals)

    async def _past_collision(self, seed: int | None) -> AsyncGenerator[tuple[int, Candidate]]:
        """Yield the tokens before the entropy counts, and at least one, by a request that reserves no token."""
        room = min(self.sampling.max_tokens, max(1, self.entropy_stop.min_tokens))
        sampling = replace(self.sampling, max_tokens=room, min_tokens=min(room, self.sampling.min_tokens))
        async with aclosing(self.draw(self.prompt, 1, sampling, seed, None, True)) as samples:
            async for i, piece in samples:
                more = piece.finish == "length" and room < self.sampling.max_tokens
                yield i, replace(piece, finish=None) if more else piece

    def _after(self, drawn: Tokens) -> "Segments":
        """Return the segments that remain after `drawn`."""
        count, sampling = len(drawn), self.sampling
        return replace(
            self,
            prompt=replace(self.prompt, tokens=self.prompt.tokens + drawn),
            sampling=replace(
                sampling, max_tokens=sampling.max_tokens - count, min_tokens=max(0, sampling.min_tokens - count)
            ),
            entropy_stop=replace(self.entropy_stop, min_tokens=max(0, self.entropy_stop.min_tokens - count)),
        )


def _without_signal(drawn: Candidate, signals: Signals) -> Candidate:
    if drawn.finish != "stop" or drawn.stop not in (signals.entropy, signals.collision):
        return drawn
    return replace(
        drawn,
        tokens=drawn.tokens[:-1],
        logprobs=None if drawn.logprobs is None else drawn.logprobs[:-1],
        finish=None if drawn.stop == signals.collision else "length",
        stop=None,
    )
