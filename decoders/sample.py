"""Plain sampling.

1. y ~ pi(. | x)
"""

import time
from typing import ClassVar, Literal

from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Rng, Sampling, join
from decoders.errors import InvalidRequest
from decoders.events import KL, Cost, Done, Run, ScoredCandidate, Step
from decoders.models import Models
from decoders.parts.budget import full_length
from decoders.parts.divergence import with_logprobs
from decoders.parts.results import Choice, results
from decoders.parts.scoring import score


class Draw(Decoder, frozen=True, extra="forbid"):
    """One draw from the policy, guided or not, for each result.

    With `max_tokens` 0 nothing is drawn, and the answers are empty.
    """

    scores_prompts: ClassVar[bool] = True

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:  # noqa: ARG002
        return sampling.n

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:  # noqa: ARG002
        return full_length(sampling, sampling.n)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        if sampling.is_greedy and sampling.n > 1:
            raise InvalidRequest("At temperature 0 all results would be the same: leave n at 1.", "sampling.n")
        if self.reward is not None:
            models.resolve_rewards(self.reward)

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        started = time.perf_counter()
        sampling = self.guided(models, sampling)
        draws = with_logprobs(sampling) if self.return_kl and sampling.guides else sampling
        # 1. y ~ p, sent piece by piece where the request streams.
        parts: list[list[Candidate]] = [[] for _ in range(sampling.n)]
        seeded = rng.plain() if sampling.n == 1 else rng
        samples = models.policy.sample(prompt, sampling.n, draws, seeded, pieces=sampling.stream)
        try:
            async for index, piece in samples:
                parts[index].append(piece)
                yield Step(piece, index)
        finally:
            await samples.aclose()
        answers = [join(pieces) for pieces in parts]
        drawn = Cost(
            len(answers), sum(len(a.tokens) for a in answers), seconds={"generate": time.perf_counter() - started}
        )
        # A reward is reported, and decides nothing.
        names = [] if self.reward is None else models.resolve_rewards(self.reward)
        rewards, scoring = await score(prompt, answers, {name: models.rewards[name] for name in names})
        scored = [ScoredCandidate(answer, own) for answer, own in zip(answers, rewards, strict=True)]
        choices = [Choice(i, KL(0.0, "exact", pointwise=True)) for i in range(len(scored))]
        made, measuring = await results(prompt, models, sampling, scored, choices, measure=self.return_kl)
        yield Done(made, drawn + scoring + measuring)


class Sample(Draw, frozen=True, extra="forbid"):
    """One draw from the policy for each result.

    Law: pi after the request's own temperature, top-p and top-k; with `guides`, the guided policy after the same. KL is
    0 where it is pi itself; else the answer's log-ratio to pi where that is known, or 0 from the law that is sampled.
    Streams token by token. A `reward` is scored and reported, and changes nothing else.
    """

    strategy: Literal["sample"] = "sample"
