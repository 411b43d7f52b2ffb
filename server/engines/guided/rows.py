"""What each row of the running batch asks for, kept where both the model and the logits processor find it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

KEY = "decant_weights"  # in SamplingParams.extra_args: the policy's weight, then each column's
_HELD_AS = "decant_rows"


class Rows:
    """Weights by row of the batch: `table` [max_rows + 1, 1 + columns], whose last row is for padding.

    `plain` says that no row asks for anything but the policy. `used` are the columns that some row has a weight for,
    and `mixed` says that some other row has none there.
    """

    def __init__(self, max_rows: int, columns: int, device: torch.device) -> None:
        self._plain = [1.0] + [0.0] * columns
        self._max_rows = max_rows
        self.asked: dict[int, list[float]] = {}
        # By a processor that knows the rows before the forward pass; else the model leaves `others` for it to mix.
        self.fed = False
        self.others: list[Tensor | None] = []
        self.table = torch.tensor([self._plain] * (max_rows + 1), device=device)
        self.set(0)

    def set(self, size: int) -> None:
        """Take `asked` as it stands now for a batch of `size` rows."""
        self.plain = not self.asked
        self.used = frozenset(j for row in self.asked.values() for j, w in enumerate(row[1:]) if w)
        # What a guide says of a row that did not ask for it is read from a cache that nobody filled.
        self.mixed = len(self.asked) < size or any(not row[1 + j] for row in self.asked.values() for j in self.used)
        if not self.plain:
            # One new tensor a change, and a copy into the table, whose address a captured graph may have kept.
            # Every row, since a plain one may stand where a guided one stood.
            rows = [self.asked.get(row, self._plain) for row in range(size)]
            self.table[: len(rows)].copy_(torch.tensor(rows), non_blocking=True)

    def weights(self, rows: Tensor) -> Tensor:
        """[count, 1 + columns] of the given row indices."""
        return self.table[rows.clamp(0, self._max_rows)]


def state(extra: dict[str, Any] | None) -> list[float] | None:
    """A request's weights, or None for the plain policy."""
    weights = (extra or {}).get(KEY)
    return None if weights is None else [float(w) for w in weights]


def check(extra: dict[str, Any] | None) -> None:
    """Raise ValueError unless the weights are a list of numbers."""
    weights = (extra or {}).get(KEY)
    if weights is None:
        return
    if not (isinstance(weights, Sequence) and all(isinstance(w, int | float) for w in weights)):
        raise ValueError(f"{KEY} must be a list of numbers, one for the policy and one for each column")


def held_by(vllm_config: Any, device: torch.device) -> Rows:
    """The rows of the engine with this configuration, made at first use.

    They hang on the compilation config, the one object that the runner gives unchanged to model and processor.
    """
    holder = vllm_config.compilation_config
    if not hasattr(holder, _HELD_AS):
        columns = len(vllm_config.model_config.hf_config.decant_columns)
        setattr(holder, _HELD_AS, Rows(vllm_config.scheduler_config.max_num_seqs, columns, device))
    rows: Rows = getattr(holder, _HELD_AS)
    return rows
