"""Answers grown block by block: what strategies that look at unfinished answers stand on."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from decoders.core import Candidate, Models, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost, Scored
from decoders.guidance import Distance
from decoders.pool import first_cause, weighted_sum


@dataclass
class Blocks:
    """Draws and scores continuations for one prompt, and keeps count of what they take."""

    prompt: Prompt
    models: Models
    weights: dict[str, float]
    sampling: Sampling
    rng: Rng
    candidates: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "score": 0.0})

    async def grow(
        self, begun: Sequence[Candidate], n: int | Sequence[int], tokens: int, until: Sequence[str] = ()
    ) -> list[list[Scored]]:
        """`n` continuations of each of `begun` by at most `tokens` tokens, scored as they stand; all drawn together.

        `n` may also say how many of each.

        Raises `RewardFailed` or `EngineFailed`, and stops all the work it began, when any of it fails.
        """
        started = time.perf_counter()
        counts = [n] * len(begun) if isinstance(n, int) else n
        try:
            async with asyncio.TaskGroup() as drawing:
                grown = [
                    drawing.create_task(self._grow_one(one, count, tokens, until))
                    for one, count in zip(begun, counts, strict=True)
                ]
        except BaseExceptionGroup as group:
            raise first_cause(group) from None
        drawn = max((task.result()[1] for task in grown), default=started)
        self.seconds["generate"] += drawn - started
        self.seconds["score"] += time.perf_counter() - drawn
        return [task.result()[0] for task in grown]

    async def _grow_one(
        self, begun: Candidate, n: int, tokens: int, until: Sequence[str]
    ) -> tuple[list[Scored], float]:
        """The continuations in the policy's order, and when the last of them was drawn."""
        wholes: dict[int, Candidate] = {}
        scores: dict[int, list[asyncio.Task[list[float]]]] = {}
        async with asyncio.TaskGroup() as scoring:
            samples = self.models.policy.extend(self.prompt, begun, n, tokens, self.sampling, self.rng, until=until)
            try:
                async for i, whole in samples:
                    wholes[i] = whole
                    scores[i] = [
                        scoring.create_task(self.models.rewards[name].score(self.prompt, [whole]))
                        for name in self.weights
                    ]
            finally:
                await samples.aclose()
            drawn = time.perf_counter()
        scored: list[Scored] = []
        for i in sorted(wholes):
            rewards = {name: task.result()[0] for name, task in zip(self.weights, scores[i], strict=True)}
            [total] = weighted_sum({name: [r] for name, r in rewards.items()}, self.weights) if rewards else [math.nan]
            scored.append(Scored(wholes[i], rewards, total))
            self.generated_tokens += len(wholes[i].tokens) - len(begun.tokens)
            self.scored_tokens += (len(self.prompt.tokens) + len(wholes[i].tokens)) * len(self.weights)
        self.candidates += n
        return scored, drawn

    def cost(self, select: float, far: Sequence[Distance | None] = ()) -> Cost:
        """What it all took, with the passes that measured distances."""
        scored = self.scored_tokens + sum(d.scored_tokens for d in far if d)
        return Cost(self.candidates, self.generated_tokens, scored, {**self.seconds, "select": select})


@dataclass
class Tail:
    """Pieces of an answer that is known block by block, each as soon as it can no longer change.

    The end of an unfinished answer may be the beginning of a stop string, and is held back.
    """

    sampling: Sampling
    tokens: int = 0
    characters: int = 0

    def piece(self, whole: Candidate) -> Candidate:
        """What is new in `whole` and final."""
        hold = 0 if whole.finish else max(map(len, self.sampling.stop), default=1) - 1
        end = max(self.characters, len(whole.text) - hold)
        logprobs = None if whole.logprobs is None else whole.logprobs[self.tokens :]
        new = replace(
            whole, tokens=whole.tokens[self.tokens :], text=whole.text[self.characters : end], logprobs=logprobs
        )
        self.tokens, self.characters = len(whole.tokens), end
        return new


def check_blocks(sampling: Sampling) -> None:
    """Raise `InvalidRequest` for what does not survive being asked for block by block."""
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(sampling, name) != 0.0:
            raise InvalidRequest("A penalty would start anew with each block: leave it at 0 for this strategy.", name)
    if sampling.repetition_penalty != 1.0:
        raise InvalidRequest(
            "A penalty would start anew with each block: leave it at 1 for this strategy.", "repetition_penalty"
        )
    if sampling.grammar is not None:
        field = "regex" if sampling.grammar.kind == "regex" else "response_format"
        raise InvalidRequest("A grammar would start anew with each block: this strategy can not keep to it.", field)
    if sampling.prompt_logprobs is not None:
        raise InvalidRequest("This strategy sees the prompt only as the beginning of blocks: leave echo out.", "echo")
