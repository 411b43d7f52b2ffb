"""Segments of an answer up to an `EntropyStop`, drawn by engine requests with a threshold, without their signals."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from decoders.core import Candidate, Prompt, Rng, Sampling, Tokens, join
from decoders.parts.concurrency import as_done
from decoders.policy import EntropyStop
from server.engines.entropy.asked import Asked, Signals

Draw = Callable[[Prompt, int, Sampling, int | None, Asked | None, bool], AsyncGenerator[tuple[int, Candidate]]]
"""(prompt, n, sampling, seed, asked, pieces): as `Policy.sample`, by one engine request, without stop strings."""


@dataclass(frozen=True)
class Segments:
    """Segments after `prompt` of at most `sampling.max_tokens` tokens, fewer where `entropy_stop` says so.

    The `finish` of one is "stop" where a token ends the answer, and else "length".
    """

    draw: Draw
    prompt: Prompt
    sampling: Sampling
    entropy_stop: EntropyStop
    signals: Signals

    async def several(self, n: int, rng: Rng) -> AsyncGenerator[tuple[int, Candidate]]:
        """Yield (index, segment) of `n`, by one engine request, and further ones for those that meet a collision."""
        prefix: dict[int, Candidate] = {}
        async with aclosing(self._request(n, rng.seed(), pieces=False)) as samples:
            async for i, segment in samples:
                if segment.finish is None:
                    prefix[i] = segment
                else:
                    yield i, segment
        order = sorted(prefix)  # forks in one order, whatever ended first
        async with aclosing(as_done([self._go_on(prefix[i], rng.fork()) for i in order])) as done:
            async for j, segment in done:
                yield order[j], segment

    async def pieces(self, rng: Rng, *, collides: bool = False) -> AsyncGenerator[Candidate]:
        """One segment in pieces, the last with a `finish`; `collides` says that it begins at a collision."""
        left = self
        while True:
            drawn: Tokens = ()
            stretch = left._past_collision(rng.seed()) if collides else left._request(1, rng.seed(), pieces=True)
            async with aclosing(stretch) as samples:
                async for _, piece in samples:
                    yield piece
                    if piece.finish is not None:
                        return
                    drawn += piece.tokens
            left, collides = left._after(drawn), not collides

    async def _go_on(self, prefix: Candidate, rng: Rng) -> Candidate:
        """The whole segment that begins with `prefix`, up to a collision."""
        async with aclosing(self._after(prefix.tokens).pieces(rng, collides=True)) as pieces:
            return join([prefix, *[piece async for piece in pieces]])

    async def _request(self, n: int, seed: int | None, *, pieces: bool) -> AsyncGenerator[tuple[int, Candidate]]:
        """Segments, or their pieces, by one request; a collision leaves the last piece without a `finish`."""
        asked = Asked(self.entropy_stop.entropy, self.entropy_stop.min_tokens, self.sampling.min_tokens, self.signals)
        async with aclosing(self.draw(self.prompt, n, self.sampling, seed, asked, pieces)) as samples:
            async for i, drawn in samples:
                yield i, _without_signal(drawn, self.signals)

    async def _past_collision(self, seed: int | None) -> AsyncGenerator[tuple[int, Candidate]]:
        """The tokens at which no entropy is asked for, and at least one, with no token reserved."""
        room = min(self.sampling.max_tokens, max(1, self.entropy_stop.min_tokens))
        sampling = replace(self.sampling, max_tokens=room, min_tokens=min(room, self.sampling.min_tokens))
        async with aclosing(self.draw(self.prompt, 1, sampling, seed, None, True)) as samples:
            async for i, piece in samples:
                more = piece.finish == "length" and room < self.sampling.max_tokens
                yield i, replace(piece, finish=None) if more else piece

    def _after(self, drawn: Tokens) -> "Segments":
        """What is left to be drawn."""
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
