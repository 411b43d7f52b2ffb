"""Held-out metrics of the six models, which `metrics.json` records."""

from __future__ import annotations

import math
from typing import Any

import torch

from training.garden.arms import arm_accuracy
from training.garden.data import SCALES, PreferencePair, Scale, policy_corpus, preference_pairs
from training.garden.policy import response_log_probs
from training.garden.rewards import reward_accuracy
from training.garden.value import Rollout, prefix_correlation

FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def held_out_pairs(tokenizer: Any, scale: Scale, seed: int, count: int = 200) -> list[PreferencePair]:
    """Return pairs that no model was trained on, labelled without error."""
    return preference_pairs(tokenizer, scale, count, f"held-out/{seed}", sharpness=math.inf)


@torch.inference_mode()
def policy_loss(policy: Any, tokenizer: Any, seed: int, count: int = 256) -> float:
    """Return the cross-entropy of `count` new answers, in nats per token."""
    fresh = policy_corpus(tokenizer, count, f"held-out/{seed}")
    log_probs, weights = response_log_probs(policy, fresh)
    return (-(log_probs * weights).sum() / weights.sum()).item()


def measure_models(
    models: dict[str, Any], tokenizer: Any, rollouts: list[Rollout], seed: int
) -> dict[str, dict[str, float]]:
    """Return metrics by model: cross-entropy, pair accuracies, and the correlation of V with new rollouts' rewards."""
    value = models["value_helpful"]
    numbers = {
        "policy": {"nats_per_token": policy_loss(models["policy"], tokenizer, seed)},
        "value_helpful": {f"correlation_at_{part}": prefix_correlation(value, rollouts, part) for part in FRACTIONS},
    }
    for scale in SCALES:
        pairs = held_out_pairs(tokenizer, scale, seed)
        reward, arm = f"reward_{scale}", f"arm_{scale}"
        numbers[reward] = {"pair_accuracy": reward_accuracy(models[reward], pairs)}
        numbers[arm] = {"pair_accuracy": arm_accuracy(models[arm], pairs)}
    return {name: {key: round(number, 4) for key, number in numbers[name].items()} for name in sorted(numbers)}
