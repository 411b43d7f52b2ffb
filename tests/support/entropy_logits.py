"""Rows of logits whose entropy is known."""

import torch

from server.engines.entropy.request_args import Signals

RARE = Signals(3, 5)  # in `law`, of a probability that float32 takes for 0


def law(rows: int = 1, spread: float = 3.0, seed: int = 0, words: int = 64) -> torch.Tensor:
    logits = torch.randn(rows, words, generator=torch.Generator().manual_seed(seed)) * spread
    logits[:, [RARE.entropy, RARE.collision]] = -60.0
    return logits


def only(logits: torch.Tensor) -> list[int]:
    """The tokens that a row may draw."""
    return torch.isfinite(logits).nonzero().flatten().tolist()
