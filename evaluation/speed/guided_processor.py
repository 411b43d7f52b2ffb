"""A guide as one would add it to vLLM from outside: a logits processor that runs a Transformers model by itself.

The model keeps a KV cache of the whole batch, and reads only the last token of each row while the batch stays the same.
When requests come or go, it reads all rows again from the start, in one padded batch. That suits a measurement in which
requests start and end together; under a mixed load it would read everything again at almost every step.
"""

from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from evaluation.speed.guided_loop import load_cached

WEIGHT = "guide_weight"  # in SamplingParams.extra_args
GUIDE = "guide_model"  # in the engine's additional_config: the guide's checkpoint

GuidedRow = tuple[float, list[int], list[int]]
"""A request's weight, its prompt's token ids, and its output's so far."""


class ProcessorGuide(LogitsProcessor):  # type: ignore[misc]
    """Add the guide's logits, times the request's weight, to the policy's."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
        self._guide = load_cached(vllm_config.additional_config[GUIDE], dtype)
        self._device = device
        self._guided: dict[int, GuidedRow] = {}  # by the row's index in the batch
        self._changed = False

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if process_dict_updates(self._guided, batch_update, _guided_row):
            self._changed = True

    def apply(self, logits: Tensor) -> Tensor:
        if not self._guided:
            return logits
        if self._changed:
            self._rows = sorted(self._guided)
            weights = [self._guided[row][0] for row in self._rows]
            self._weights = torch.tensor(weights, device=self._device).unsqueeze(1)
            guide = self._guide.begin([[*self._guided[row][1], *self._guided[row][2]] for row in self._rows])
            self._changed = False
        else:
            last = [self._guided[row][2][-1] for row in self._rows]
            guide = self._guide.step(torch.tensor(last, device=self._device).unsqueeze(1))
        if len(self._rows) == len(logits):
            return logits.addcmul_(guide.to(logits.dtype), self._weights)
        logits[self._rows] += self._weights * guide
        return logits


def _guided_row(params: SamplingParams, prompt: list[int] | None, output: list[int]) -> GuidedRow | None:
    """Return what to keep of a new request; None if it has no guide."""
    weight = (params.extra_args or {}).get(WEIGHT)
    return None if weight is None else (weight, prompt or [], output)
