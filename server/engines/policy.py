"""The policy on vLLM."""

import math
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from vllm.inputs.engine import tokens_input
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Alternative, Candidate, Prompt, Rng, Sampling, TokenLogprob
from decoders.errors import EngineFailed
from server.engines.vllm import engine_errors, sampling_params


class VllmPolicy:
    """A frozen language model in an AsyncLLM: continuous batching over all requests and their candidates.

    `n` candidates are one engine request, so their prompt is computed once, and each is handed on as it ends.
    """

    def __init__(self, engine: AsyncLLM, name: str) -> None:
        self.engine = engine
        self.name = name

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        grammar = sampling.grammar
        blame = None if grammar is None else "regex" if grammar.kind == "regex" else "response_format"
        with engine_errors("policy", blame):
            params = sampling_params(sampling, n, rng.seed(), pieces=pieces)
            request = self.engine.generate(tokens_input(list(prompt.tokens)), params, uuid.uuid4().hex)
            async with aclosing(request) as outputs:
                async for output in outputs:
                    for part in output.outputs:
                        if pieces or part.finished():
                            yield part.index, _candidate(part, output, sampling)


def _candidate(part: CompletionOutput, output: RequestOutput, sampling: Sampling) -> Candidate:
    reason = part.finish_reason
    if reason not in (None, "stop", "length", "repetition"):
        raise EngineFailed(f"The policy engine ended a completion by '{reason}'.")
    prompt_logprobs = output.prompt_logprobs if sampling.prompt_logprobs is not None else None
    return Candidate(
        tokens=tuple(part.token_ids),
        text=part.text,
        finish=None if reason is None else "length" if reason == "length" else "stop",
        stop=part.stop_reason,
        logprobs=None if part.logprobs is None else _logprobs(part.logprobs, part.token_ids),
        prompt_logprobs=None
        if prompt_logprobs is None
        else tuple(
            None if entry is None else _logprob(entry, token)
            for entry, token in zip(prompt_logprobs, output.prompt_token_ids or (), strict=True)
        ),
        trimmed=isinstance(part.stop_reason, str) and not sampling.include_stop,
    )


def _logprobs(entries: Sequence[Mapping[int, Logprob]], tokens: Sequence[int]) -> tuple[TokenLogprob, ...]:
    return tuple(_logprob(entry, token) for entry, token in zip(entries, tokens, strict=True))


def _logprob(entry: Mapping[int, Logprob], token: int) -> TokenLogprob:
    """vLLM gives the token that stands there first, then the most likely ones in order, it again among them."""
    own = entry[token]
    ranked = sorted(entry.items(), key=lambda item: item[1].rank or math.inf)
    return TokenLogprob(
        token,
        own.decoded_token or "",
        own.logprob,
        tuple(Alternative(t, e.decoded_token or "", e.logprob) for t, e in ranked),
    )
