"""A policy and rewards whose calls are spans: strategies stay without a word of tracing."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from opentelemetry import context, trace
from opentelemetry.trace import Span

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.models import Models, Reward, scores_all
from decoders.policy import EntropyStop, Policy, TokenLaw
from server.telemetry.spans import TRACER, current_span, failed

T = TypeVar("T")


def traced(models: Models) -> Models:
    """Return the same models; each draw and each call of a reward is a span."""
    rewards = {name: TracedReward(name, reward) for name, reward in models.rewards.items()}
    return replace(models, policy=TracedPolicy(models.policy), rewards=rewards)


class TracedReward:
    """A reward whose calls are spans `score NAME`."""

    def __init__(self, name: str, inner: Reward) -> None:
        self._name = name
        self._inner = inner

    @property
    def scores_all(self) -> bool:
        return scores_all(self._inner)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        attributes = {"decant.reward": self._name, "decant.completions": len(completions)}
        with current_span(f"score {self._name}", attributes):
            return await self._inner.score(prompt, completions)


class TracedPolicy:
    """A policy whose draws are spans `generate`, and whose scoring of a completion is one named `logprob`."""

    def __init__(self, inner: Policy) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def guides(self) -> Mapping[str, str]:
        return self._inner.guides

    def check_entropy_stop(self, sampling: Sampling) -> None:
        self._inner.check_entropy_stop(sampling)

    def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        drawn = self._inner.sample(prompt, n, sampling, rng, pieces=pieces)
        return self._traced(drawn, prompt, n, sampling, lambda item: len(item[1].tokens))

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
        drawn = self._inner.extend(
            prompt, prefix, n, tokens, sampling, rng, stop_block=stop_block, entropy_stop=entropy_stop
        )
        return self._traced(drawn, prompt, n, sampling, lambda item: item[2])

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        with current_span("logprob", {"gen_ai.request.model": self.name, "decant.completions": 1}):
            return await self._inner.logprob(prompt, completion, law)

    async def _traced(
        self, drawn: AsyncGenerator[T], prompt: Prompt, n: int, sampling: Sampling, count: Callable[[T], int]
    ) -> AsyncGenerator[T]:
        """Yield what is drawn. The span is the current one while the engine draws, and not while the caller works."""
        span = TRACER.start_span("generate", attributes=self._attributes(prompt, n, sampling))
        inside = trace.set_span_in_context(span)
        tokens = 0
        try:
            async with aclosing(drawn):
                while True:
                    token = context.attach(inside)
                    try:
                        item = await anext(drawn)
                    except StopAsyncIteration:
                        break
                    finally:
                        context.detach(token)
                    tokens += count(item)
                    yield item
        except Exception as error:
            failed(span, type(error).__name__)
            raise
        finally:
            _end(span, tokens)

    def _attributes(self, prompt: Prompt, n: int, sampling: Sampling) -> dict[str, Any]:
        return {
            "gen_ai.request.model": self.name,
            "gen_ai.request.choice.count": n,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.usage.input_tokens": len(prompt.tokens),
        }


def _end(span: Span, tokens: int) -> None:
    span.set_attribute("gen_ai.usage.output_tokens", tokens)
    span.end()
