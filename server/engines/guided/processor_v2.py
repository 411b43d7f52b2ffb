"""The same for vLLM's V2 runner. Experimental: tested against a hand-made context, never run in an engine.

V2 tells a processor which request a row belongs to only after the logits are there, so here the processor mixes: the
model hands over its guides' logits and gives the policy's. It mixes after biases, penalties and grammars, which are
then done to the policy alone; and the log-probabilities that vLLM calls raw are the policy's.
"""

from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor

from server.engines.guided.mixing import mix
from server.engines.guided.rows import check, held_by, state


class GuidedLogits(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params.extra_args)

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        columns = len(vllm_config.model_config.hf_config.decant_columns)
        self._rows = held_by(vllm_config, req_states.device)
        self._plain = [1.0] + [0.0] * columns
        self._asked = torch.tensor([self._plain] * req_states.max_num_reqs)  # by slot, on the host
        self._weights = self._asked.to(req_states.device)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        weights = state(sampling_params.extra_args)
        self._asked[req_idx] = torch.tensor(weights or self._plain)
        return weights is not None

    def apply_staged_writes(self) -> None:
        self._weights.copy_(self._asked)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        masked = logits == -torch.inf  # zero times infinity is not what a mask means
        weights = self._weights[ctx.expanded_idx_mapping]
        return mix(logits, self._rows.others, weights, some_plain=True).masked_fill_(masked, -torch.inf)
