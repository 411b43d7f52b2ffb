"""The architecture of all six models, a two-layer Llama, and the tensors that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig

from training.garden.tokenizer import BOS, EOS, PAD

CONTEXT = 256


def llama_config(vocabulary: int, **head: Any) -> Any:
    """Return the configuration of a model with `vocabulary` tokens; `head` has the fields of a classifier head."""
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
    """Return the configuration of a model with one real-valued output.

    It is marked as a regression, so that serving engines return the output without a sigmoid.
    """
    return llama_config(vocabulary, num_labels=1, problem_type="regression", classifier_dropout=0.0)


def start_from(policy: Any, model: Any) -> Any:
    """Return `model` with the policy's transformer weights and, since they are tied, its token embeddings."""
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
    """Return 1.0 at tokens of the answer and 0.0 elsewhere, in the shape of `mask`: [rows, length], padded right."""
    starts = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    return (mask.bool() & (torch.arange(mask.shape[1]) >= starts)).float()
