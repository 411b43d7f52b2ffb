"""Batched sampling from the garden's policy, plain or guided by ARMs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from training import guided_reference
from training.garden.tokenizer import EOS
from training.guided_reference import GuidedDraw, Guides

MAX_TOKENS = 72  # the world's own answers have at most about 60


def sample_answers(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    *,
    seed: int,
    guides: Guides = (),
    max_tokens: int = MAX_TOKENS,
) -> list[GuidedDraw]:
    """Draw one answer to each prompt (token ids) at temperature 1, of at most `max_tokens` tokens.

    The draws are a function of `seed` and of the whole batch of prompts.
    """
    generator = torch.Generator().manual_seed(seed)
    return guided_reference.sample_guided(
        policy, prompts, tokens=max_tokens, end=EOS, generator=generator, guides=guides
    )
