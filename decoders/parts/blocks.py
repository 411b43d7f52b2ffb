"""Answers grown block by block: what strategies that look at unfinished answers stand on."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from decoders.core import Candidate, EntropyStop, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost, Scored
from decoders.models import Models
from decoders.parts.concurrency import together
from decoders.parts.objective import Objective


@dataclass
class Blocks:
    """Draws and judges continuations for one prompt, and keeps count of what they take."""

    prompt: Prompt
    models: Models
    objective: Objective
    sampling: Sampling
    rng: Rng
    cost: Cost = field(default_factory=Cost)

    async def grow(
        self,
        prefix: Sequence[Candidate],
        n: int | Sequence[int],
        tokens: int,
        stop_block: Sequence[str] = (),
        entropy_stop: EntropyStop | None = None,
    ) -> list[list[Scored]]:
        """`n` continuations of each of `prefix`, as `Policy.extend` has them, judged as they stand; all drawn together.

        `n` may also say how many of each.

        Raises `RewardFailed` or `EngineFailed`, and stops all the work it began, when any of it fails.
        """
        started = time.perf_counter()
        counts = [n] * len(prefix) if isinstance(n, int) else n
        grown = await together(
            self._grow_one(one, count, tokens, stop_block, entropy_stop)
            for one, count in zip(prefix, counts, strict=True)
        )
        drawn = max((at for _, at in grown), default=started)
        self.cost += Cost(seconds={"generate": drawn - started, "score": time.perf_counter() - drawn})
        return [scored for scored, _ in grown]

    async def _grow_one(
        self, prefix: Candidate, n: int, tokens: int, stop_block: Sequence[str], entropy_stop: EntropyStop | None
    ) -> tuple[list[Scored], float]:
        """The continuations in the policy's order, and when the last of them was drawn."""
        wholes: dict[int, Candidate] = {}
        scores: dict[int, list[asyncio.Task[Sequence[float | None]]]] = {}
        generated = 0
        async with asyncio.TaskGroup() as scoring:
            samples = self.models.policy.extend(
                self.prompt,
                prefix,
                n,
                tokens,
                self.sampling,
                self.rng,
                stop_block=stop_block,
                entropy_stop=entropy_stop,
            )
            try:
                async for i, whole, drawn in samples:
                    wholes[i] = whole
                    generated += drawn
                    scores[i] = [
                        scoring.create_task(self.models.rewards[name].score(self.prompt, [whole]))
                        for name in self.objective.names
                    ]
            finally:
                await samples.aclose()
            finished = time.perf_counter()
        scored = [
            self.objective.scored(
                wholes[i], {n: task.result()[0] for n, task in zip(self.objective.names, scores[i], strict=True)}
            )
            for i in sorted(wholes)
        ]
        passes = sum(len(self.prompt.tokens) + len(whole.tokens) for whole in wholes.values())
        self.cost += Cost(n, generated, passes * len(self.objective.names))
        return scored, finished


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


def block_bound(max_tokens: int, least: int, most: int) -> tuple[int, int]:
    """Return how many blocks an answer may have, and how many tokens one candidate for each of them may draw in all.

    Args:
        max_tokens: Tokens of the longest answer.
        least: Tokens of the shortest block that is kept, unless it ends the answer.
        most: Tokens of the longest block.

    The t-th block follows at least t * least tokens, so a candidate for it has at most max_tokens - t * least left.
    """
    starts = range(0, max_tokens, least)
    full = min(len(starts), max(0, (max_tokens - most) // least + 1))  # blocks that have room for `most` tokens
    rest = starts[full:]
    return len(starts), full * most + len(rest) * max_tokens - sum(rest)


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
