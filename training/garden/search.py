"""The garden's models as `decoders` know models, so that the study runs the strategies that are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Rng, Sampling, Tokens
from decoders.events import Done, Result
from decoders.models import Models
from decoders.policy import EntropyStop, TokenLaw
from decoders.rng import SeededRng
from training.garden.batching import BatchedFunction
from training.garden.sampling import MAX_TOKENS, sample_answers
from training.garden.tokenizer import EOS

ROWS = 1024  # completions drawn in one batch


class GardenPolicy:
    """The policy as a `decoders.core.Policy` of token ids without texts; concurrent draws share batches.

    Draws follow from `seed` and from the order of the calls, not from the strategy's own randomness.
    """

    name = "garden"
    guides: Mapping[str, str] = {}

    def __init__(self, model: Any, seed: int) -> None:
        self._model, self._seed = model, seed
        self._draw = BatchedFunction(self._draw_batch)

    async def sample(
        self,
        prompt: Prompt,
        n: int,
        sampling: Sampling,
        rng: Rng,  # noqa: ARG002
        *,
        pieces: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        for i, drawn in enumerate(await self._draw([(prompt.tokens, sampling.max_tokens)] * n)):
            yield i, Candidate(drawn, "", "stop" if drawn[-1] == EOS else "length")

    async def extend(
        self,
        prompt: Prompt,
        prefix: Candidate,
        n: int,
        tokens: int,
        sampling: Sampling,
        rng: Rng,  # noqa: ARG002
        *,
        stop_block: Sequence[str] = (),
        entropy_stop: EntropyStop | None = None,
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        assert not stop_block
        assert entropy_stop is None
        left = min(tokens, sampling.max_tokens - len(prefix.tokens))
        for i, drawn in enumerate(await self._draw([(prompt.tokens + prefix.tokens, left)] * n)):
            whole = prefix.tokens + drawn
            if drawn[-1] == EOS:
                yield i, Candidate(whole, "", "stop"), len(drawn)
            else:
                yield i, Candidate(whole, "", "length" if len(whole) == sampling.max_tokens else None), len(drawn)

    def check_entropy_stop(self, sampling: Sampling) -> None:
        raise NotImplementedError("the study asks for no entropies")

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        raise NotImplementedError("the study asks for no log-probabilities")

    def _draw_batch(self, items: list[tuple[Tokens, int]]) -> list[Tokens]:
        """Draw a continuation of each prefix, of at most so many tokens."""
        drawn: list[Tokens] = []
        for start in range(0, len(items), ROWS):
            batch = items[start : start + ROWS]
            longest = max(tokens for _, tokens in batch)
            found = sample_answers(self._model, [prefix for prefix, _ in batch], seed=self._seed, max_tokens=longest)
            drawn += [tuple(one.tokens[:tokens]) for one, (_, tokens) in zip(found, batch, strict=True)]
            self._seed += 1
        return drawn


class GardenReward:
    """A reward or prefix scorer as a `decoders.models.Reward`.

    Args:
        score: gives a number for each list of a prompt's and an answer's token ids.
    """

    scores_all = True

    def __init__(self, score: Callable[[Sequence[Sequence[int]]], Tensor]) -> None:
        def compute(sequences: list[Tokens]) -> list[float]:
            rewards: list[float] = score(sequences).tolist()
            return rewards

        self._score = BatchedFunction(compute)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        return await self._score([prompt.tokens + completion.tokens for completion in completions])


def search(
    decoder: Decoder,
    policy: Any,
    score: Callable[[Sequence[Sequence[int]]], Tensor],
    prompts: Sequence[list[int]],
    seed: int,
) -> list[Result]:
    """Run a strategy once on each prompt, all prompts at the same time; return its results.

    Args:
        decoder: the strategy; its reward is `score`.
        policy: the garden's policy.
        score: gives a number for each list of a prompt's and an answer's token ids.
        prompts: token ids.
        seed: of the draws and of the strategy's choices.
    """
    models = Models(GardenPolicy(policy, seed), {"default": GardenReward(score)})
    sampling = Sampling(max_tokens=MAX_TOKENS)

    async def run(index: int, prompt: list[int]) -> Result:
        events = decoder.decode(Prompt(tuple(prompt), ""), models, sampling, SeededRng(seed + index))
        [done] = [event async for event in events if isinstance(event, Done)]
        [result] = done.results
        return result

    async def run_all() -> list[Result]:
        return await asyncio.gather(*(run(index, prompt) for index, prompt in enumerate(prompts)))

    return asyncio.run(run_all())
