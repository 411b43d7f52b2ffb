"""Autoregressive reward models: causal LMs whose summed log-probability is the reward.

Xu et al. 2024, "GenARM": r(x, y) = sum_t log pi_r(y_t | x, y_<t), learnt by
-log sigmoid(beta_r (log pi_r(y_w | x) - log pi_r(y_l | x))), no reference model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import LlamaForCausalLM

from training.garden.backbone import llama_config, start_from
from training.garden.data import PreferencePair
from training.garden.fit import fit
from training.garden.policy import response_log_probs


def _margins(model: Any, pairs: Sequence[PreferencePair]) -> Tensor:
    """Return log pi_r(y_w | x) - log pi_r(y_l | x) in nats; [len(pairs)]."""
    log_probs, weights = response_log_probs(model, [p.chosen for p in pairs] + [p.rejected for p in pairs])
    chosen, rejected = (log_probs * weights).sum(1).chunk(2)
    return chosen - rejected


def train_arm(
    policy: Any, pairs: list[PreferencePair], name: str, seed: int, steps: int = 200, beta_r: float = 0.1
) -> Any:
    """Train an ARM from the policy's weights; `beta_r` is that of the loss above, per nat."""
    model = start_from(policy, LlamaForCausalLM(llama_config(policy.config.vocab_size)))

    def loss_of(batch: list[PreferencePair]) -> Tensor:
        return -F.logsigmoid(beta_r * _margins(model, batch)).mean()

    fit(model, pairs, loss_of, name=name, steps=steps, batch=24, seed=seed, weight_decay=0.0)
    return model


@torch.inference_mode()
def arm_accuracy(model: Any, pairs: Sequence[PreferencePair], batch: int = 128) -> float:
    """Return the share of pairs in which the chosen answer is the likelier one."""
    margins = torch.cat([_margins(model, pairs[i : i + batch]) for i in range(0, len(pairs), batch)])
    return (margins > 0).float().mean().item()
