"""The logits processor of guided requests for vLLM's V2 runner.

Experimental: tested against a hand-made context, never run in an engine.

In V2 a processor learns which request a row belongs to only after the logits are computed, so here the processor mixes:
the model returns the policy's logits and leaves its guides' beside them. Biases, penalties and grammars come before the
mixing, so they apply to the policy alone; and the log-probabilities that vLLM calls raw are the policy's.
"""

from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor

from server.engines.guided.mixing import mix
from server.engines.guided.row_weights import check, requested_weights, row_weights_of


class GuidedLogits(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params.extra_args)

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        columns = len(vllm_config.model_config.hf_config.decant_columns)
        self._rows = row_weights_of(vllm_config, req_states.device)
        self._plain = [1.0] + [0.0] * columns
        self._requested = torch.tensor([self._plain] * req_states.max_num_reqs)  # by slot, on the host
        self._weights = self._requested.to(req_states.device)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        weights = requested_weights(sampling_params.extra_args)
        self._requested[req_idx] = torch.tensor(weights or self._plain)
        return weights is not None

    def apply_staged_writes(self) -> None:
        self._weights.copy_(self._requested)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        masked = logits == -torch.inf  # 0 * -inf would be NaN: masked logits stay masked
        weights = self._weights[ctx.expanded_idx_mapping]
        return mix(logits, self._rows.guide_logits, weights, some_plain=True).masked_fill_(masked, -torch.inf)
