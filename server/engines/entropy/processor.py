"""The logits processor for vLLM's V1 runner. It runs after vLLM's own processors, and before temperature."""

from collections.abc import Sequence

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from server.engines.entropy.request_args import check, entropy_args
from server.engines.entropy.stop_logits import EntropyRow, apply_entropy_stops

CHUNK = 32  # rows at a time, so that their copies take little memory


def row_of(params: SamplingParams) -> EntropyRow | None:
    """Return the row of a request that sets a threshold, or None."""
    args = entropy_args(params.extra_args)
    if args is None:
        return None
    reserved = {args.signals.entropy, args.signals.collision}
    ends = tuple(params.all_stop_token_ids - reserved) if args.min_tokens else ()
    return EntropyRow(args, params.temperature, params.logit_bias or {}, ends)


class EntropyStopProcessor(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params.extra_args)

    def __init__(self, *_: object) -> None:
        # By index in the batch, with the tokens drawn so far.
        self._rows: dict[int, tuple[EntropyRow, Sequence[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _state)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        places = sorted(self._rows)
        for start in range(0, len(places), CHUNK):
            some = places[start : start + CHUNK]
            rows, drawn = zip(*(self._rows[place] for place in some), strict=True)
            apply_entropy_stops(logits, some, rows, [len(tokens) for tokens in drawn])
        return logits


def _state(
    params: SamplingParams, _: Sequence[int] | None, drawn: Sequence[int]
) -> tuple[EntropyRow, Sequence[int]] | None:
    row = row_of(params)
    return None if row is None else (row, drawn)
