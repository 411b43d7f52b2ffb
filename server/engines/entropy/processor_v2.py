"""The logits processor for vLLM's V2 runner. Experimental: tested against a hand-made context, never run in an engine.

Without speculative decoding, with which Decant loads no processor, each request of a batch has one row of logits.
"""

from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor

from server.engines.entropy.processor import CHUNK, row_of
from server.engines.entropy.request_args import check
from server.engines.entropy.stop_logits import EntropyRow, apply_entropy_stops


class EntropyStopProcessorV2(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params.extra_args)

    def __init__(self, vllm_config: Any, req_states: Any) -> None:  # noqa: ARG002 - vLLM's signature
        self._prompt_lengths = req_states.prompt_len.np  # by slot, on the host
        self._rows: dict[int, EntropyRow] = {}  # by slot

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self._rows.pop(req_idx, None)
        row = row_of(sampling_params)
        if row is not None:
            self._rows[req_idx] = row
        return row is not None

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        slots = ctx.idx_mapping_np.tolist()
        places = [place for place, slot in enumerate(slots) if slot in self._rows]
        for start in range(0, len(places), CHUNK):
            some = places[start : start + CHUNK]
            counts = [int(ctx.seq_lens_upper_bound_np[i] - self._prompt_lengths[slots[i]]) for i in some]
            apply_entropy_stops(logits, some, [self._rows[slots[i]] for i in some], counts)
        return logits
