"""The policy: a causal LM trained on good and bad answers alike."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import LlamaForCausalLM

from training.garden.backbone import llama_config, pad, response_mask
from training.garden.data import DialogueExample
from training.garden.fit import fit


def response_log_probs(model: Any, examples: list[DialogueExample]) -> tuple[Tensor, Tensor]:
    """Return the log-probability of every next token in nats, and 1.0 at tokens of the answer.

    Both have the shape [len(examples), longest - 1].
    """
    ids, mask = pad([example.tokens for example in examples])
    logits = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    log_probs = -F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return log_probs, response_mask([example.prompt for example in examples], mask)[:, 1:]


def train_policy(corpus: list[DialogueExample], vocabulary: int, seed: int, steps: int = 400) -> Any:
    """Train by maximum likelihood of the answers given their prompts, from random weights."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(vocabulary))

    def loss_of(batch: list[DialogueExample]) -> Tensor:
        log_probs, weights = response_log_probs(model, batch)
        return -(log_probs * weights).sum() / weights.sum()

    fit(model, corpus, loss_of, name="policy", steps=steps, batch=48, seed=seed, peak=3e-3)
    return model
