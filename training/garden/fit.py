"""The training loop of all six models: AdamW for a fixed number of steps, so that a rebuild gives the same bytes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

T = TypeVar("T")


def fit(
    model: Any,
    examples: Sequence[T],
    loss_of: Callable[[list[T]], Tensor],
    *,
    name: str,
    steps: int,
    batch: int,
    seed: int,
    peak: float = 1e-3,
    weight_decay: float = 0.01,
) -> None:
    """Minimise a loss, and leave the model in evaluation mode.

    The learning rate rises linearly to `peak` in 20 steps and falls along a cosine to a twentieth of it.

    Args:
        model: what is trained.
        examples: the data.
        loss_of: the mean loss of a batch.
        name: shown beside the progress; the order of the data depends on it.
        steps: exactly so many.
        batch: examples of each step, drawn without replacement.
        seed: of the order of the data.
        peak: learning rate.
        weight_decay: AdamW's.
    """
    rng = random.Random(f"fit/{name}/{seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 20) * max(0.05, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    model.train()
    with tqdm(total=steps, desc=f"{name:16}", unit="step") as bar:
        for _ in range(steps):
            loss = loss_of(rng.sample(examples, batch))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            bar.update()
    model.eval()
