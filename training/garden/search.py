"""Best-of-N and blockwise controlled decoding, offline and batched over all prompts, for the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.garden.rewards import score
from training.garden.sampling import MAX_TOKENS, sample
from training.garden.tokenizer import EOS
from training.garden.value import score_prefixes

BLOCK_TOKENS = 8


def pool(policy: Any, prompts: Sequence[list[int]], n: int, seed: int) -> list[list[list[int]]]:
    """`n` answers (token ids) to every prompt, drawn four to a batch; [prompt][candidate]."""
    answers: list[list[list[int]]] = [[] for _ in prompts]
    for done in range(0, n, 4):
        drawn = sample(policy, list(prompts) * min(4, n - done), seed=seed + done)
        for i, one in enumerate(drawn):
            answers[i % len(prompts)].append(one.tokens)
    return answers


def pool_rewards(reward: Any, prompts: Sequence[list[int]], pools: Sequence[Sequence[list[int]]]) -> list[list[float]]:
    """The reward of every candidate of `pool`; [prompt][candidate]."""
    flat = score(reward, [p + answer for p, answers in zip(prompts, pools, strict=True) for answer in answers])
    table: list[list[float]] = flat.view(len(prompts), -1).tolist()
    return table


def best_of_n(pools: Sequence[Sequence[list[int]]], rewards: Sequence[Sequence[float]], n: int) -> list[list[int]]:
    """For every prompt the candidate with the greatest reward among its first `n`."""
    return [answers[max(range(n), key=scored.__getitem__)] for answers, scored in zip(pools, rewards, strict=True)]


def blockwise(
    policy: Any, value: Any, prompts: Sequence[list[int]], candidates: int, seed: int
) -> tuple[list[list[int]], float]:
    """Blockwise decoding of Mudgal et al. 2023: draw K blocks, keep the one V likes best, go on to `<eos>`.

    Returns the answers (token ids) and how many blocks they had on average, which bounds the KL.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    blocks = 0
    for round_ in range(MAX_TOKENS // BLOCK_TOKENS):
        open_rows = [row for row, answer in enumerate(answers) if answer[-1:] != [EOS]]
        if not open_rows:
            break
        blocks += len(open_rows)
        prefixes = [prompts[row] + answers[row] for row in open_rows for _ in range(candidates)]
        drawn = sample(policy, prefixes, seed=seed + round_, max_tokens=BLOCK_TOKENS)
        extended = [prefix + block.tokens for prefix, block in zip(prefixes, drawn, strict=True)]
        chosen = score_prefixes(value, extended).view(-1, candidates).argmax(1).tolist()
        for place, row in enumerate(open_rows):
            answers[row] = extended[place * candidates + chosen[place]][len(prompts[row]) :]
    return answers, blocks / len(prompts)
