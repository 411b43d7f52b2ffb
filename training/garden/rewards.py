"""Reward models r(x, y): one number for a prompt and its answer, learnt from preferences.

Bradley and Terry 1952, as in Christiano et al. 2017: P(y_w beats y_l) = sigmoid(r(x, y_w) - r(x, y_l)).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import LlamaForSequenceClassification

from training.garden.backbone import pad, scalar_head, start_from
from training.garden.data import Pair
from training.garden.fit import fit


def _rewards(model: Any, sequences: Sequence[Sequence[int]]) -> Tensor:
    """r of every sequence, with gradients; [len(sequences)]."""
    ids, mask = pad(sequences)
    rewards: Tensor = model(ids, attention_mask=mask, use_cache=False).logits[:, 0]
    return rewards


@torch.inference_mode()
def score(model: Any, sequences: Sequence[Sequence[int]], batch: int = 256) -> Tensor:
    """r of every prompt-and-answer token list, read at its last token; [len(sequences)]."""
    return torch.cat([_rewards(model, sequences[i : i + batch]) for i in range(0, len(sequences), batch)])


def train_reward(policy: Any, pairs: list[Pair], name: str, seed: int, steps: int = 200) -> Any:
    """A reward model on the policy's backbone, all weights trained: -log sigmoid(r(x, y_w) - r(x, y_l)).

    Every answer is shown without its `<eos>` half of the time, so that the reward means the same for plain
    text.
    """
    torch.manual_seed(seed)
    rng = random.Random(f"eos/{name}/{seed}")
    model = start_from(policy, LlamaForSequenceClassification(scalar_head(policy.config.vocab_size)))

    def loss_of(batch: list[Pair]) -> Tensor:
        answers = [pair.chosen for pair in batch] + [pair.rejected for pair in batch]
        chosen, rejected = _rewards(model, [a.tokens[: rng.choice((-1, None))] for a in answers]).chunk(2)
        return -F.logsigmoid(chosen - rejected).mean()

    fit(model, pairs, loss_of, name=name, steps=steps, batch=24, seed=seed)
    return model


def reward_accuracy(model: Any, pairs: Sequence[Pair]) -> float:
    """The share of pairs whose chosen answer has the greater reward."""
    chosen = score(model, [pair.chosen.tokens for pair in pairs])
    rejected = score(model, [pair.rejected.tokens for pair in pairs])
    return (chosen > rejected).float().mean().item()
