"""The policy on vLLM: how samples and extensions of answers become engine requests."""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import EMPTY, Candidate, Prompt, Rng, Sampling, join
from decoders.errors import InvalidRequest
from decoders.parts.concurrency import as_done, merge, together
from decoders.policy import EntropyStop, TokenLaw
from server.engines.entropy.request_args import EntropyArgs
from server.engines.entropy.segments import Segments
from server.engines.entropy.signal_tokens import choose_signals, signal_candidates
from server.engines.guided.plan import Plan
from server.engines.policy_engines import PolicyEngines
from server.engines.text.answer_reader import AnswerReader, read_block, read_pieces
from server.engines.text.model_text import ModelText
from server.engines.vllm_seam import end_tokens


class VllmPolicy:
    """A frozen language model in an AsyncLLM, which batches over all requests and their candidates.

    `n` candidates are one engine request, so their prompt is computed once, and each is yielded when it ends.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        name: str,
        text: ModelText,
        guides: Mapping[str, str] | None = None,
        plan: Plan | None = None,
        guided: AsyncLLM | None = None,
    ) -> None:
        """Args:
        guides: The kind of each loaded guide, by name.
        guided: The engine that runs `plan`, which has the guides; `engine` by default.
        """
        self.name = name
        self.guides = guides or {}
        self._text = text
        self._engines = PolicyEngines(engine, guided or engine, plan or Plan(), text)
        self._signal_candidates = signal_candidates(text.tokenizer, text.vocab_size, end_tokens(engine))

    def check_entropy_stop(self, sampling: Sampling) -> None:
        reason = self._engines.no_entropy_stop(sampling)
        if reason is not None:
            raise InvalidRequest(f"The policy's engine cannot end segments by entropy: {reason}.", "strategy.strategy")
        choose_signals(self._signal_candidates, sampling.stop_token_ids)

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        if sampling.max_tokens == 0:
            empty = await self._empty(prompt, sampling)
            for i in range(n):
                yield i, empty
            return
        if not self._text.incomplete(prompt.tokens):
            async with aclosing(self._engines.draw(prompt, n, sampling, rng.seed(), pieces=pieces)) as samples:
                async for item in samples:
                    yield item
            return
        # The prompt ends inside a character: vLLM would put the prompt's text before the answer's, our reader does not.
        reader = AnswerReader(self._text, prompt.tokens, sampling)
        draws = [self._engines.draw_pieces(prompt, sampling, rng.seed()) for _ in range(n)]
        parts: list[list[Candidate]] = [[] for _ in draws]
        async with aclosing(merge([read_pieces(draw, reader.copy()) for draw in draws])) as read:
            async for i, (piece, _) in read:
                parts[i].append(piece)
                if pieces:
                    yield i, piece
                elif piece.finish is not None:
                    yield i, join(parts[i])

    async def _empty(self, prompt: Prompt, sampling: Sampling) -> Candidate:
        """Return the answer without tokens. The engine draws one to read the prompt, and it is thrown away."""
        known = None
        if sampling.prompt_logprobs is not None:
            scoring = Sampling(max_tokens=1, prompt_logprobs=sampling.prompt_logprobs, guides=sampling.guides)
            async with aclosing(self._engines.draw(prompt, 1, scoring, None, detokenize=False)) as samples:
                async for _, drawn in samples:
                    known = drawn.prompt_logprobs
        return replace(EMPTY, finish="length", prompt_logprobs=known)

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
        """Draw by one engine request for prompt and prefix, most of whose keys and values are in the prefix cache.

        With stop strings or `stop_block`, draw by one request for each continuation, which is stopped when the whole
        answer's text has one of them. With `entropy_stop`, a request stops before the token whose law has that entropy:
        see `Segments`.
        """
        room = min(tokens, sampling.max_tokens - len(prefix.tokens))
        least = min(room, max(0, sampling.min_tokens - len(prefix.tokens)))
        block = replace(sampling, max_tokens=room, min_tokens=least)
        longer = replace(prompt, tokens=prompt.tokens + prefix.tokens)
        reader = AnswerReader(self._text, prompt.tokens, sampling, stop_block).read_prefix(prefix.tokens)
        segments = None if entropy_stop is None else self._segments(longer, block, entropy_stop)
        if sampling.stop or stop_block:
            draws = [
                self._engines.draw_pieces(longer, block, rng.seed())
                if segments is None
                else segments.pieces(rng.fork())
                for _ in range(n)
            ]
            async with aclosing(as_done([read_block(prefix, draw, reader.copy()) for draw in draws])) as done:
                async for i, (whole, count) in done:
                    yield i, whole, count
            return
        if segments is None:
            several = self._engines.draw(longer, n, block, rng.seed(), detokenize=False)
        else:
            several = segments.sample(n, rng)
        async with aclosing(several) as samples:
            async for i, drawn in samples:
                own = reader.copy()
                piece, _ = own.read_piece(drawn)
                yield i, replace(join([prefix, piece]), text=own.text), len(drawn.tokens)

    def _segments(self, prompt: Prompt, sampling: Sampling, entropy_stop: EntropyStop) -> Segments:
        def draw(
            prompt: Prompt, n: int, sampling: Sampling, seed: int | None, args: EntropyArgs | None, pieces: bool
        ) -> AsyncGenerator[tuple[int, Candidate]]:
            return self._engines.draw(prompt, n, sampling, seed, pieces=pieces, detokenize=False, entropy=args)

        signals = choose_signals(self._signal_candidates, sampling.stop_token_ids)
        return Segments(draw, prompt, sampling, entropy_stop, signals)

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        return await self._engines.logprob(prompt, completion, self._engines.plan.weights(law.guides, law.policy))

    async def guide_reward(self, prompt: Prompt, completion: Candidate, guide: str) -> float:
        """Return sum_t log pi_r(y_t | x, y_<t) of a guide, minus its reference's if it has one, in nats."""
        plan = self._engines.plan
        terms = plan.guides[guide].items()
        alone = [[float(i == column) for i in range(1 + len(plan.columns))] for column, _ in terms]
        sums = await together(self._engines.logprob(prompt, completion, weights) for weights in alone)
        return math.fsum(share * total for (_, share), total in zip(terms, sums, strict=True))
