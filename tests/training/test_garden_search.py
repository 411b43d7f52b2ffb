"""The garden's models behind the protocols of `decoders`: batches, ends of answers, and the choice by reward."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch

from decoders import BestOfN, Controlled
from decoders.base import Decoder
from decoders.maths.logmath import best_of_n_kl
from training.garden import store
from training.garden.batching import BatchedFunction
from training.garden.grammar import all_questions
from training.garden.sampling import MAX_TOKENS
from training.garden.search import search
from training.garden.tokenizer import EOS, encode_prompt


def test_concurrent_calls_are_computed_together() -> None:
    batches: list[list[int]] = []

    def double(items: list[int]) -> list[int]:
        batches.append(items)
        return [2 * item for item in items]

    async def call() -> list[list[int]]:
        doubled = BatchedFunction(double)
        return list(await asyncio.gather(doubled([1, 2]), doubled([]), doubled([3])))

    assert asyncio.run(call()) == [[2, 4], [], [6]]
    assert batches == [[1, 2, 3]]


@pytest.mark.parametrize("decoder", [BestOfN(n=3), Controlled(candidates=3, block_tokens=8)], ids=["best", "blocks"])
def test_a_search_chooses_by_its_reward_and_ends_as_the_policy_does(decoder: Decoder) -> None:
    policy, tokenizer = store.load("policy"), store.load_tokenizer()
    prompts = [encode_prompt(tokenizer, question) for question in all_questions()[:6]]
    scored: list[tuple[int, ...]] = []

    def brevity(sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        scored.extend(map(tuple, sequences))
        return torch.tensor([-float(len(tokens)) for tokens in sequences])

    results = search(decoder, policy, brevity, prompts, seed=0)
    assert len(results) == len(prompts)
    for prompt, result in zip(prompts, results, strict=True):
        tokens = result.candidate.tokens
        assert EOS not in tokens[:-1]
        assert tokens[-1] == EOS or len(tokens) == MAX_TOKENS
        assert result.rewards["default"] == -float(len(prompt) + len(tokens))
        assert result.kl is not None
        blocks = 1 if isinstance(decoder, BestOfN) else -(-len(tokens) // 8)
        assert result.kl.nats == pytest.approx(blocks * best_of_n_kl(3))
        if isinstance(decoder, BestOfN):
            own = [one[len(prompt) :] for one in scored if list(one[: len(prompt)]) == prompt]
            assert len(own) == 3
            assert len(tokens) == min(map(len, own))
