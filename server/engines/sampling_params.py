"""`decoders.core.Sampling` as vLLM's `SamplingParams`: fields of one name are one parameter."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from decoders.core import Grammar, Sampling

DECANTS_OWN = frozenset({"grammar", "guides", "stream"})
"""Fields of `Sampling` that are no parameters of vLLM's."""
_NAMES = tuple(field.name for field in fields(Sampling) if field.name not in DECANTS_OWN | {"n"})


def sampling_params(sampling: Sampling, n: int, seed: int | None, *, pieces: bool) -> SamplingParams:
    """Return the parameters of one engine request that draws `n` samples.

    Without `pieces`, several samples are reported as each finishes: the cumulative output kind, with an interval
    that no completion reaches.
    """
    kind = RequestOutputKind.DELTA if pieces else RequestOutputKind.CUMULATIVE
    return SamplingParams(
        **{name: _as_vllm_has_it(getattr(sampling, name)) for name in _NAMES if name != "logit_bias"},
        logit_bias=dict(sampling.logit_bias) or None,
        n=n,
        seed=seed,
        structured_outputs=structured_outputs(sampling.grammar),
        output_kind=RequestOutputKind.FINAL_ONLY if n == 1 and not pieces else kind,
        stream_interval=None if pieces else sampling.max_tokens + 1,
        skip_clone=True,
    )


def _as_vllm_has_it(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def structured_outputs(grammar: Grammar | None) -> StructuredOutputsParams | None:
    """Return the constraint as vLLM has it."""
    if grammar is None:
        return None
    value = True if grammar.kind == "json_object" else _as_vllm_has_it(grammar.value)
    return StructuredOutputsParams(**{grammar.kind: value})
