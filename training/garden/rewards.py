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
from training.garden.data import PreferencePair
from training.garden.fit import fit


def _rewards(model: Any, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Return r of every sequence, with gradients; [len(sequences)]."""
    ids, mask = pad(sequences)
    rewards: Tensor = model(ids, attention_mask=mask, use_cache=False).logits[:, 0]
    return rewards


@torch.inference_mode()
def score(model: Any, sequences: Sequence[Sequence[int]], batch: int = 256) -> Tensor:
    """Return r of every list of a prompt's and an answer's token ids, read at the last token; [len(sequences)]."""
    return torch.cat([_rewards(model, sequences[i : i + batch]) for i in range(0, len(sequences), batch)])


def train_reward(policy: Any, pairs: list[PreferencePair], name: str, seed: int, steps: int = 200) -> Any:
    """Train all weights of a reward model that starts from the policy's: -log sigmoid(r(x, y_w) - r(x, y_l)).

    Half of the answers are read without their `<eos>`, so that the reward means the same for plain text.
    """
    torch.manual_seed(seed)
    rng = random.Random(f"eos/{name}/{seed}")
    model = start_from(policy, LlamaForSequenceClassification(scalar_head(policy.config.vocab_size)))

    def loss_of(batch: list[PreferencePair]) -> Tensor:
        answers = [pair.chosen for pair in batch] + [pair.rejected for pair in batch]
        chosen, rejected = _rewards(model, [a.tokens[: rng.choice((-1, None))] for a in answers]).chunk(2)
        return -F.logsigmoid(chosen - rejected).mean()

    fit(model, pairs, loss_of, name=name, steps=steps, batch=24, seed=seed)
    return model


def reward_accuracy(model: Any, pairs: Sequence[PreferencePair]) -> float:
    """Return the share of pairs in which the chosen answer has the greater reward."""
    chosen = score(model, [pair.chosen.tokens for pair in pairs])
    rejected = score(model, [pair.rejected.tokens for pair in pairs])
    return (chosen > rejected).float().mean().item()
