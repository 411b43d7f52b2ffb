"""The one architecture all six models share: a two-layer Llama, and how token lists become its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig

from training.garden.tokenizer import BOS, EOS, PAD

CONTEXT = 256


def llama_config(vocabulary: int, **head: Any) -> Any:
    """The configuration of a model on this vocabulary; `head` adds what a classifier head needs."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=336,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        **head,
    )


def scalar_head(vocabulary: int) -> Any:
    """The configuration of a model with one real-valued output.

    `regression` tells serving engines to return it as it is, without a sigmoid.
    """
    return llama_config(vocabulary, num_labels=1, problem_type="regression", classifier_dropout=0.0)


def start_from(policy: Any, model: Any) -> Any:
    """`model` with the policy's transformer weights (and, being tied, its token embeddings)."""
    model.model.load_state_dict(policy.model.state_dict())
    model.tie_weights()
    return model


def pad(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, both int64 of shape [len(sequences), longest], padded on the right."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), PAD)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def response_mask(prompts: Sequence[Sequence[int]], mask: Tensor) -> Tensor:
    """1.0 where the token belongs to the answer, 0.0 elsewhere; like `mask` [rows, length], padded right."""
    starts = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    return (mask.bool() & (torch.arange(mask.shape[1]) >= starts)).float()
