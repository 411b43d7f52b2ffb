"""The weights that each row of the running batch requests, kept where the model and the logits processor find them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

KEY = "decant_weights"  # in SamplingParams.extra_args: the policy's weight, then each column's
_ATTRIBUTE = "decant_rows"


class RowWeights:
    """Weights by row of the batch: `table` [max_rows + 1, 1 + columns], whose last row is for padding.

    `plain` says that every row requests the plain policy. `used` are the columns with a weight in some row, and `mixed`
    says that one of them has no weight in some other row.
    """

    def __init__(self, max_rows: int, columns: int, device: torch.device) -> None:
        self._plain = [1.0] + [0.0] * columns
        self._max_rows = max_rows
        self.requested: dict[int, list[float]] = {}
        # Set by a processor that knows the rows before the forward pass. Without one, the model leaves `guide_logits`
        # for the processor to mix.
        self.known_before_forward = False
        self.guide_logits: list[Tensor | None] = []
        self.table = torch.tensor([self._plain] * (max_rows + 1), device=device)
        self.update(0)

    def update(self, size: int) -> None:
        """Copy `requested` into the table, for a batch of `size` rows."""
        self.plain = not self.requested
        self.used = frozenset(j for row in self.requested.values() for j, w in enumerate(row[1:]) if w)
        # A guide's logits in a row without a weight for it come from a KV cache that was never filled there.
        self.mixed = len(self.requested) < size or any(
            not row[1 + j] for row in self.requested.values() for j in self.used
        )
        if not self.plain:
            # One new tensor for each change, and a copy into the table: a captured graph may have kept its address.
            # All rows are copied, since a plain row may stand where a guided one stood.
            rows = [self.requested.get(row, self._plain) for row in range(size)]
            self.table[: len(rows)].copy_(torch.tensor(rows), non_blocking=True)

    def weights(self, rows: Tensor) -> Tensor:
        """Return the weights [count, 1 + columns] of these row indices [count]."""
        return self.table[rows.clamp(0, self._max_rows)]


def requested_weights(extra: dict[str, Any] | None) -> list[float] | None:
    """Return the weights in a request's `extra_args`, or None for the plain policy."""
    weights = (extra or {}).get(KEY)
    return None if weights is None else [float(w) for w in weights]


def check(extra: dict[str, Any] | None) -> None:
    """Raise ValueError unless the weights, if there are any, are a list of numbers."""
    weights = (extra or {}).get(KEY)
    if weights is None:
        return
    if not (isinstance(weights, Sequence) and all(isinstance(w, int | float) for w in weights)):
        raise ValueError(f"{KEY} must be a list of numbers, one for the policy and one for each column")


def row_weights_of(vllm_config: Any, device: torch.device) -> RowWeights:
    """Return the row weights of the engine with this configuration; they are made at the first call.

    They are an attribute of the compilation config, the one object that the runner gives unchanged to model and
    processor.
    """
    holder = vllm_config.compilation_config
    if not hasattr(holder, _ATTRIBUTE):
        columns = len(vllm_config.model_config.hf_config.decant_columns)
        setattr(holder, _ATTRIBUTE, RowWeights(vllm_config.scheduler_config.max_num_seqs, columns, device))
    rows: RowWeights = getattr(holder, _ATTRIBUTE)
    return rows
