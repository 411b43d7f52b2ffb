"""Batched sampling from the policy, plain or guided, with Transformers: the reference the study is run with.

Guided decoding is GenARM's [Xu et al. 2024]:
    p(y_t | x, y_<t)  ∝  pi(y_t | x, y_<t) prod_i pi_i(y_t | x, y_<t)^{w_i}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from training.garden.backbone import pad
from training.garden.tokenizer import EOS, PAD

MAX_TOKENS = 72  # the world's own answers have at most about 60


@dataclass(frozen=True)
class Guide:
    """An ARM and its weight w."""

    model: Any
    weight: float


@dataclass(frozen=True)
class Sampled:
    """An answer's tokens, `<eos>` included where it ended, and the KL (nats) from the policy along it.

    The KL is sum_t KL(p(. | y_<t) || pi(. | y_<t)): unbiased for the KL of whole answers, with less
    variance than the log-ratio of the sampled tokens.
    """

    tokens: list[int]
    kl: float


class _Stepper:
    """A causal LM with its keys and values: tokens in, next-token log-probabilities [rows, vocabulary] out."""

    def __init__(self, model: Any) -> None:
        self.model, self.cache = model, DynamicCache()

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        log_probs: Tensor = out.logits[:, -1].float().log_softmax(-1)
        return log_probs


@torch.inference_mode()
def sample(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    *,
    seed: int,
    guides: Sequence[Guide] = (),
    max_tokens: int = MAX_TOKENS,
) -> list[Sampled]:
    """One answer per prompt (token ids), at temperature 1, of at most `max_tokens` tokens.

    The draws are a function of `seed` and of the whole batch of prompts.
    """
    generator = torch.Generator().manual_seed(seed)
    ids, mask = pad(prompts, side="left")
    base, steppers = _Stepper(policy), [_Stepper(guide.model) for guide in guides]
    alive = torch.ones(len(prompts), dtype=torch.bool)
    kl = torch.zeros(len(prompts))
    columns: list[Tensor] = []
    while len(columns) < max_tokens and alive.any():
        plain = base(ids, mask)
        mixed = plain
        if guides:
            tilt = sum(guide.weight * step(ids, mask) for guide, step in zip(guides, steppers, strict=True))
            mixed = (plain + tilt).log_softmax(-1)
            kl += (mixed.exp() * (mixed - plain)).sum(-1) * alive
        ids = torch.multinomial(mixed.exp(), 1, generator=generator)
        ids[~alive] = PAD
        columns.append(ids)
        alive = alive & (ids[:, 0] != EOS)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    rows = torch.cat(columns, dim=1).tolist()
    return [Sampled(_until_eos(row), nats) for row, nats in zip(rows, kl.tolist(), strict=True)]


def _until_eos(row: list[int]) -> list[int]:
    return row[: row.index(EOS) + 1] if EOS in row else row
