"""The logits processor for vLLM's V1 runner. Custom processors come after vLLM's own, and before temperature."""

from collections.abc import Sequence

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from server.engines.entropy.asked import asked, check
from server.engines.entropy.cut import Row, cut

AT_ONCE = 32  # rows, so that their copies take little memory


def row_of(params: SamplingParams) -> Row | None:
    """What a request asks, or None for one that asks nothing."""
    found = asked(params.extra_args)
    if found is None:
        return None
    reserved = {found.signals.entropy, found.signals.collision}
    ends = tuple(params.all_stop_token_ids - reserved) if found.min_tokens else ()
    return Row(found, params.temperature, params.logit_bias or {}, ends)


class EntropyCut(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params.extra_args)

    def __init__(self, *_: object) -> None:
        self._rows: dict[int, tuple[Row, Sequence[int]]] = {}  # by place in the batch, with the tokens drawn so far

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _state)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        places = sorted(self._rows)
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            rows, drawn = zip(*(self._rows[place] for place in some), strict=True)
            cut(logits, some, rows, [len(tokens) for tokens in drawn])
        return logits


def _state(params: SamplingParams, _: Sequence[int] | None, drawn: Sequence[int]) -> tuple[Row, Sequence[int]] | None:
    row = row_of(params)
    return None if row is None else (row, drawn)
