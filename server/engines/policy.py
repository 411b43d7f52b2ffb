"""The policy on vLLM."""

import math
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from vllm import SamplingParams
from vllm.inputs.engine import tokens_input
from vllm.logprobs import Logprob
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import EMPTY, Candidate, Prompt, Rng, Sampling, join
from decoders.errors import InvalidRequest, UnreadableText
from decoders.parts.concurrency import as_done, merge, together
from decoders.policy import EntropyStop, TokenLaw
from server.engines.entropy.asked import Asked
from server.engines.entropy.load import refusal
from server.engines.entropy.reserved import candidates, signals
from server.engines.entropy.segments import Segments
from server.engines.guided.plan import Plan
from server.engines.outputs import Outputs
from server.engines.reader import Reader, read_pieces, stretch
from server.engines.sampling_params import sampling_params
from server.engines.text import ModelText
from server.engines.vllm_seam import end_tokens, engine_errors


class VllmPolicy:
    """A frozen language model in an AsyncLLM: continuous batching over all requests and their candidates.

    `n` candidates are one engine request, so their prompt is computed once, and each is handed on as it ends. Guided
    requests and scores go to `guided`, an engine that runs `plan`; it may be the same one.
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
        self.name = name
        self._text = text
        self.guides = guides or {}
        self._engine = engine
        self._plan = plan or Plan()
        self._guided = guided or engine
        self._reservable = candidates(text.tokenizer, text.vocab_size, end_tokens(engine))

    def check_entropy_stop(self, sampling: Sampling) -> None:
        engine = self._guided if sampling.guides else self._engine
        reason = refusal(engine.vllm_config)
        if reason is not None:
            raise InvalidRequest(f"The policy's engine cannot end segments by entropy: {reason}.", "decoding.strategy")
        signals(self._reservable, sampling.stop_token_ids)

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        if sampling.max_tokens == 0:
            empty = await self._empty(prompt, sampling)
            for i in range(n):
                yield i, empty
            return
        if not self._text.incomplete(prompt.tokens):
            async with aclosing(self._draw(prompt, n, sampling, rng.seed(), pieces=pieces)) as samples:
                async for item in samples:
                    yield item
            return
        # vLLM would put the prompt's text before the answer's, so here a reader of ours has the text.
        reader = Reader(self._text, prompt.tokens, sampling)
        answers = [read_pieces(self._pieces(prompt, sampling, rng.seed()), reader.twin()) for _ in range(n)]
        parts: list[list[Candidate]] = [[] for _ in answers]
        async with aclosing(merge(answers)) as read:
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
            async with aclosing(self._draw(prompt, 1, scoring, None, read=True)) as samples:
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
        """One engine request of prompt and prefix: the prefix cache has most of their keys and values already.

        With stop strings or `stop_block`, one for each continuation, which is stopped when the whole answer's text has
        one of them. With `entropy_stop`, the request stops before the token whose law has that entropy: see `Segments`.
        """
        room = min(tokens, sampling.max_tokens - len(prefix.tokens))
        least = min(room, max(0, sampling.min_tokens - len(prefix.tokens)))
        block = replace(sampling, max_tokens=room, min_tokens=least)
        longer = replace(prompt, tokens=prompt.tokens + prefix.tokens)
        reader = Reader(self._text, prompt.tokens, sampling, stop_block).read(prefix.tokens)
        segments = None if entropy_stop is None else self._segments(longer, block, entropy_stop)
        if sampling.stop or stop_block:
            draws = [
                self._pieces(longer, block, rng.seed()) if segments is None else segments.pieces(rng.fork())
                for _ in range(n)
            ]
            async with aclosing(as_done([stretch(prefix, draw, reader.twin()) for draw in draws])) as done:
                async for i, (whole, count) in done:
                    yield i, whole, count
            return
        several = segments.several(n, rng) if segments else self._draw(longer, n, block, rng.seed(), read=True)
        async with aclosing(several) as samples:
            async for i, drawn in samples:
                piece, _ = (heard := reader.twin()).piece(drawn)
                yield i, replace(join([prefix, piece]), text=heard.text), len(drawn.tokens)

    def _segments(self, prompt: Prompt, sampling: Sampling, entropy_stop: EntropyStop) -> Segments:
        def draw(
            prompt: Prompt, n: int, sampling: Sampling, seed: int | None, asked: Asked | None, pieces: bool
        ) -> AsyncGenerator[tuple[int, Candidate]]:
            return self._draw(prompt, n, sampling, seed, pieces=pieces, read=True, asked=asked)

        return Segments(draw, prompt, sampling, entropy_stop, signals(self._reservable, sampling.stop_token_ids))

    async def _pieces(self, prompt: Prompt, sampling: Sampling, seed: int | None) -> AsyncGenerator[Candidate]:
        """One answer's pieces as the engine draws them."""
        async with aclosing(self._draw(prompt, 1, sampling, seed, pieces=True, read=True)) as samples:
            async for _, piece in samples:
                yield piece

    async def _draw(
        self,
        prompt: Prompt,
        n: int,
        sampling: Sampling,
        seed: int | None,
        *,
        pieces: bool = False,
        read: bool = False,
        asked: Asked | None = None,
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        """As `sample`, by one engine request. With `read`, texts and stop strings are left to a reader.

        What is `asked` of the entropy ends a completion by one of its signals, which is then the last token.
        """
        grammar = sampling.grammar
        blame = None if grammar is None else "regex" if grammar.kind == "regex" else "response_format"
        with engine_errors("policy", blame):
            params = sampling_params(replace(sampling, stop=()) if read else sampling, n, seed, pieces=pieces)
            params.detokenize = not read
            weights = self._plan.weights(sampling.guides)
            params.extra_args = self._plan.extra_args(weights)
            if asked is not None:
                asked.put_into(params)
            engine = self._guided if sampling.guides else self._engine
            inputs = tokens_input(list(prompt.tokens), cache_salt=self._plan.salt(weights))
            request = engine.generate(inputs, params, uuid.uuid4().hex)
            made = Outputs(self._text, prompt, sampling, read=read)
            async with aclosing(request) as outputs:
                async for output in outputs:
                    for part in output.outputs:
                        if grammar is not None and part.finish_reason == "error":
                            raise InvalidRequest("The engine cannot follow this grammar.", blame)
                        if pieces or part.finished():
                            yield part.index, made.candidate(part, output)

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        return await self._logprob(prompt, completion, self._plan.weights(law.guides, law.policy))

    async def guide_reward(self, prompt: Prompt, completion: Candidate, guide: str) -> float:
        """sum_t log pi_r(y_t | x, y_<t) of a guide, minus its reference's if it has one, in nats."""
        terms = self._plan.guides[guide].items()
        alone = [[float(i == column) for i in range(1 + len(self._plan.columns))] for column, _ in terms]
        sums = await together(self._logprob(prompt, completion, weights) for weights in alone)
        return math.fsum(share * total for (_, share), total in zip(terms, sums, strict=True))

    async def _logprob(self, prompt: Prompt, completion: Candidate, weights: list[float]) -> float:
        """One pass over prompt and completion; the last token's comes from a draw that may only be that token."""
        if not completion.tokens:
            return 0.0
        length, limit = len(prompt.tokens) + len(completion.tokens), self._text.max_model_len
        if not prompt.tokens or length > limit:
            raise UnreadableText(f"it reads completions of a prompt, both of at most {limit} tokens; here are {length}")
        assert self._plan.columns or weights == self._plan.weights({}), (
            "an engine without guides scores the policy alone"
        )
        *before, last = prompt.tokens + completion.tokens
        start = len(prompt.tokens)
        params = SamplingParams(
            max_tokens=1,
            prompt_logprobs=0 if len(before) > start else None,
            logprobs=0,
            allowed_token_ids=[last],
            extra_args=self._plan.extra_args(weights),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )
        inputs = tokens_input(before, cache_salt=self._plan.salt(weights))
        engine = self._guided if self._plan.columns else self._engine
        entries: list[Mapping[int, Logprob] | None] = []
        with engine_errors("policy"):
            async for output in engine.generate(inputs, params, uuid.uuid4().hex):
                entries = [*(output.prompt_logprobs or ())[start:], *(output.outputs[0].logprobs or ())]
        pairs = zip(entries, completion.tokens, strict=True)
        return math.fsum(entry[token].logprob for entry, token in pairs if entry is not None)
