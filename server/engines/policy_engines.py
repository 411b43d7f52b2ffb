"""The requests that a policy sends to its engines: draws, and the log-probability of a completion."""

import math
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from vllm import SamplingParams
from vllm.inputs.engine import tokens_input
from vllm.logprobs import Logprob
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Candidate, Prompt, Sampling
from decoders.errors import InvalidRequest, UnreadableText
from server.engines.entropy.load import refusal
from server.engines.entropy.request_args import EntropyArgs
from server.engines.guided.plan import Plan
from server.engines.parted_draws import draw_in_parts
from server.engines.remote import Elsewhere
from server.engines.request_outputs import RequestOutputs
from server.engines.sampling_params import sampling_params
from server.engines.text.chat_parser import ChatParser
from server.engines.text.model_text import ModelText
from server.engines.vllm_seam import engine_errors
from server.telemetry.spans import trace_headers, tracing


@dataclass(frozen=True)
class PolicyEngines:
    """The policy's engine, and the one that runs `plan` for guided requests and for scores; it may be the same one."""

    engine: AsyncLLM
    guided: AsyncLLM
    plan: Plan
    text: ModelText

    def engine_for(self, sampling: Sampling) -> AsyncLLM:
        return self.guided if sampling.guides else self.engine

    def no_entropy_stop(self, sampling: Sampling) -> str | None:
        """Return why these samples cannot end at an entropy, or None if they can."""
        engine = self.engine_for(sampling)
        return "another server runs it (policy.url)" if isinstance(engine, Elsewhere) else refusal(engine.vllm_config)

    async def draw(
        self,
        prompt: Prompt,
        n: int,
        sampling: Sampling,
        seed: int | None,
        *,
        pieces: bool = False,
        detokenize: bool = True,
        entropy: EntropyArgs | None = None,
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        """Draw as `Policy.sample` does, by one engine request; of a prompt with `turns`, by several if need be.

        Args:
            detokenize: Without it, candidates have no texts, and no stop string ends them: an `AnswerReader` adds both.
            entropy: A threshold that may end a completion by one of its signals, which is then the last token.
        """

        def part(first: int, count: int) -> AsyncGenerator[tuple[int, Candidate]]:
            # The engine gives the j-th of n samples the seed s + j, so the parts' samples are those of the whole.
            own = None if seed is None else seed + first
            return self._draw(prompt, count, sampling, own, pieces=pieces, detokenize=detokenize, entropy=entropy)

        turns = prompt.turns
        drawn = part(0, n) if turns is None else draw_in_parts(n, sampling.max_tokens, turns, part)
        async with aclosing(drawn) as items:
            async for item in items:
                yield item

    async def _draw(
        self,
        prompt: Prompt,
        n: int,
        sampling: Sampling,
        seed: int | None,
        *,
        pieces: bool,
        detokenize: bool,
        entropy: EntropyArgs | None,
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        grammar = sampling.grammar
        field = None if grammar is None else "sampling.grammar"
        with engine_errors("policy", field):
            params = sampling_params(sampling if detokenize else replace(sampling, stop=()), n, seed, pieces=pieces)
            params.detokenize = detokenize
            weights = self.plan.weights(sampling.guides)
            params.extra_args = self.plan.extra_args(weights)
            if entropy is not None:
                entropy.put_into(params)
            inputs = tokens_input(list(prompt.tokens), cache_salt=self._salt(prompt, weights))
            reasoning = prompt.parser.engine_arguments if isinstance(prompt.parser, ChatParser) else {}
            engine = self.engine_for(sampling)
            request = engine.generate(
                inputs, params, uuid.uuid4().hex, priority=prompt.priority, **reasoning, **_trace(engine)
            )
            made = RequestOutputs(self.text, prompt, sampling, detokenize=detokenize)
            async with aclosing(request) as outputs:
                async for output in outputs:
                    for part in output.outputs:
                        if grammar is not None and part.finish_reason == "error":
                            raise InvalidRequest("The engine cannot follow this grammar.", field)
                        if pieces or part.finished():
                            yield part.index, made.candidate(part, output)

    def _salt(self, prompt: Prompt, weights: list[float]) -> str | None:
        """Return what keys and values are cached apart by: the guides' weights, and the request's own salt."""
        salts = [salt for salt in (self.plan.salt(weights), prompt.cache_salt) if salt is not None]
        return "\n".join(salts) or None

    async def draw_pieces(self, prompt: Prompt, sampling: Sampling, seed: int | None) -> AsyncGenerator[Candidate]:
        """Yield the pieces of one answer as the engine draws them, without texts."""
        async with aclosing(self.draw(prompt, 1, sampling, seed, pieces=True, detokenize=False)) as samples:
            async for _, piece in samples:
                yield piece

    async def logprob(self, prompt: Prompt, completion: Candidate, weights: list[float]) -> float:
        """Return sum_t log p(y_t | x, y_<t) in nats, under the law with these weights of policy and guides.

        One pass over prompt and completion gives all terms but the last; the last one comes from a draw that is only
        allowed that token.
        """
        if not completion.tokens:
            return 0.0
        length, limit = len(prompt.tokens) + len(completion.tokens), self.text.max_model_len
        if not prompt.tokens or length > limit:
            raise UnreadableText(f"it reads completions of a prompt, both of at most {limit} tokens; here are {length}")
        assert self.plan.columns or weights == self.plan.weights({}), (
            "an engine without guides scores under the policy alone"
        )
        *before, last = prompt.tokens + completion.tokens
        start = len(prompt.tokens)
        params = SamplingParams(
            max_tokens=1,
            prompt_logprobs=0 if len(before) > start else None,
            logprobs=0,
            allowed_token_ids=[last],
            extra_args=self.plan.extra_args(weights),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )
        inputs = tokens_input(before, cache_salt=self._salt(prompt, weights))
        engine = self.guided if self.plan.columns else self.engine
        entries: list[Mapping[int, Logprob] | None] = []
        with engine_errors("policy"):
            async for output in engine.generate(
                inputs, params, uuid.uuid4().hex, priority=prompt.priority, **_trace(engine)
            ):
                entries = [*(output.prompt_logprobs or ())[start:], *(output.outputs[0].logprobs or ())]
        pairs = zip(entries, completion.tokens, strict=True)
        return math.fsum(entry[token].logprob for entry, token in pairs if entry is not None)


def _trace(engine: AsyncLLM) -> dict[str, Mapping[str, str]]:
    """Return the argument by which the engine's own spans stand below the current one, if it makes any."""
    if not tracing() or engine.vllm_config.observability_config.otlp_traces_endpoint is None:
        return {}
    return {"trace_headers": trace_headers()}
