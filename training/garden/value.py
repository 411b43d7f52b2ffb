"""The prefix scorer V(x, y_<=t): the expected reward if the policy continues the answer, read at every token.

It is trained by CD-FUDGE [Mudgal et al. 2023, "Controlled Decoding"]: on rollouts y of the policy, minimise
1/2 sum_t (V(x, y_<=t) - r(x, y))^2. As a token classifier it also serves as a process reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForTokenClassification

from training.garden.backbone import pad, response_mask, scalar_head, start_from
from training.garden.data import DialogueExample
from training.garden.fit import fit


@dataclass(frozen=True)
class Rollout:
    """A prompt, the policy's answer to it, and the answer's reward."""

    example: DialogueExample
    reward: float


def _values(model: Any, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return V at every token and the attention mask, both [len(sequences), longest]."""
    ids, mask = pad(sequences)
    return model(ids, attention_mask=mask, use_cache=False).logits[..., 0], mask


@torch.inference_mode()
def score_prefixes(model: Any, prefixes: Sequence[Sequence[int]], batch: int = 512) -> Tensor:
    """Return V at the last token of every prefix, in the reward's units; [len(prefixes)]."""
    scores = []
    for start in range(0, len(prefixes), batch):
        values, mask = _values(model, prefixes[start : start + batch])
        scores.append(values.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0])
    return torch.cat(scores)


def train_value(policy: Any, rollouts: list[Rollout], name: str, seed: int, steps: int = 200) -> Any:
    """Train a prefix scorer that starts from the policy's weights.

    Training uses standardised rewards, which suit the learning rate; then the head is scaled back, so that V is in the
    reward's own units.
    """
    torch.manual_seed(seed)
    model = start_from(policy, LlamaForTokenClassification(scalar_head(policy.config.vocab_size)))
    deviation, mean = torch.std_mean(torch.tensor([rollout.reward for rollout in rollouts]))

    def loss_of(batch: list[Rollout]) -> Tensor:
        values, mask = _values(model, [rollout.example.tokens for rollout in batch])
        targets = (torch.tensor([rollout.reward for rollout in batch]) - mean) / deviation
        weights = response_mask([rollout.example.prompt[:-1] for rollout in batch], mask)  # y_<=0 counts too
        return 0.5 * ((values - targets[:, None]).square() * weights).sum() / weights.sum()

    fit(model, rollouts, loss_of, name=name, steps=steps, batch=48, seed=seed)
    with torch.no_grad():
        model.score.weight.mul_(deviation)
        model.score.bias.mul_(deviation).add_(mean)
    return model


def prefix_correlation(model: Any, rollouts: Sequence[Rollout], fraction: float) -> float:
    """Return the Pearson correlation of V after `fraction` of an answer's tokens with the finished answer's reward."""
    prefixes = [r.example.prompt + r.example.response[: round(fraction * len(r.example.response))] for r in rollouts]
    rewards = torch.tensor([rollout.reward for rollout in rollouts])
    return torch.corrcoef(torch.stack([score_prefixes(model, prefixes), rewards]))[0, 1].item()
