"""Plain sampling.

y ~ pi(. | x)
"""

import time
from typing import ClassVar, Literal

from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Rng, Sampling, join
from decoders.errors import InvalidRequest
from decoders.events import KL, Cost, Done, Result, Run, Step
from decoders.models import Models
from decoders.parts.budget import times
from decoders.parts.concurrency import together
from decoders.parts.divergence import distances, divergence, with_logprobs


class Draw(Decoder, frozen=True, extra="forbid"):
    """One draw per result from the policy, guided or not. With `max_tokens` 0 nothing is drawn: answers are empty."""

    scores_prompts: ClassVar[bool] = True

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:  # noqa: ARG002
        return sampling.n

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:  # noqa: ARG002
        return times(sampling, sampling.n)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        if sampling.is_greedy and sampling.n > 1:
            raise InvalidRequest("At temperature 0 all results would be the same: leave n at 1.", "n")
        if self.reward is not None:
            models.resolve_rewards(self.reward)

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        started = time.perf_counter()
        sampling = self.guided(models, sampling)
        draws = with_logprobs(sampling) if self.return_kl and sampling.guides else sampling
        parts: list[list[Candidate]] = [[] for _ in range(sampling.n)]
        own = rng.plain() if sampling.n == 1 else rng
        samples = models.policy.sample(prompt, sampling.n, draws, own, pieces=sampling.stream)
        try:
            async for index, piece in samples:
                parts[index].append(piece)
                yield Step(piece, index)
        finally:
            await samples.aclose()
        candidates = [join(p) for p in parts]
        drawn = time.perf_counter()
        weights = {} if self.reward is None else models.resolve_rewards(self.reward)
        scores = await together(models.rewards[name].score(prompt, candidates) for name in weights)
        scored = time.perf_counter()
        far, measuring = await distances(models, prompt, candidates, sampling, asked=self.return_kl)
        tokens = sum(len(c.tokens) for c in candidates)
        yield Done(
            results=tuple(
                Result(
                    c,
                    rewards={name: values[i] for name, values in zip(weights, scores, strict=True)},
                    kl=divergence(KL(0.0, "exact", pointwise=True), d, sampling),
                    policy_logprob=None if d is None else d.policy_logprob,
                )
                for i, (c, d) in enumerate(zip(candidates, far, strict=True))
            ),
            cost=Cost(
                candidates=len(candidates),
                generated_tokens=tokens,
                scored_tokens=(tokens + len(prompt.tokens) * len(candidates)) * len(weights),
                seconds={"generate": drawn - started, "score": scored - drawn},
            )
            + measuring,
        )


class Sample(Draw, frozen=True, extra="forbid"):
    """One draw from the policy per result.

    Law: pi after the request's own temperature, top-p and top-k, with `guides` the guided policy after the same. KL is
    0 where it is pi itself; else the answer's log-ratio to pi where that is known, or 0 from the law that is sampled.
    Streams token by token. A `reward` is scored and reported, and changes nothing else.
    """

    strategy: Literal["sample"] = "sample"
