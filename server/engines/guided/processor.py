"""The logits processor that brings requests' weights to the guided model in vLLM's V1 runner.

It changes no logits: before each forward pass it sets the weights of the batch's rows for the model. The model mixes
when it computes logits, so all that vLLM does with logits (log-probabilities, grammars, biases, penalties,
truncation) is done to the guided law, and what is masked stays masked.
"""

from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from server.engines.guided.row_weights import check, requested_weights, row_weights_of


class GuidedRows(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params.extra_args)

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        self._rows = row_weights_of(vllm_config, device)
        self._rows.known_before_forward = True

    def is_argmax_invariant(self) -> bool:
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is not None:
            process_dict_updates(
                self._rows.requested, batch_update, lambda params, *_: requested_weights(params.extra_args)
            )
            self._rows.update(batch_update.batch_size)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        return logits
