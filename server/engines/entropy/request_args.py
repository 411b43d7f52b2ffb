"""The entropy threshold of a request, as it travels to the logits processor in `SamplingParams.extra_args`."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

KEY = "decant_entropy_stop"


@dataclass(frozen=True)
class Signals:
    """Two token ids that stop a request without being part of its answer.

    `entropy` is drawn where the next token's entropy is at the threshold, `collision` where it is below, but the policy
    itself could draw one of the two: then that token has to come from a request that reserves neither.
    """

    entropy: int
    collision: int


@dataclass(frozen=True)
class EntropyArgs:
    """Stop before a token whose law has at least `entropy` nats, after `least` tokens; no end before `min_tokens`."""

    entropy: float
    least: int
    min_tokens: int
    signals: Signals

    def put_into(self, params: Any) -> None:
        """Add this to vLLM's `SamplingParams`, whose own `min_tokens` would keep a signal from being drawn."""
        values = [self.entropy, self.least, self.min_tokens, *astuple(self.signals)]
        params.extra_args = {**(params.extra_args or {}), KEY: values}
        params.stop_token_ids = [*params.stop_token_ids, *astuple(self.signals)]
        params.min_tokens = 0


def entropy_args(extra: dict[str, Any] | None) -> EntropyArgs | None:
    """Return the threshold in a request's `extra_args`, or None for a request without one."""
    values = (extra or {}).get(KEY)
    if values is None:
        return None
    entropy, least, min_tokens, *signals = values
    return EntropyArgs(float(entropy), least, min_tokens, Signals(*signals))


def check(extra: dict[str, Any] | None) -> None:
    """Raise ValueError unless the threshold, if there is one, is five numbers, all but the first whole."""
    values = (extra or {}).get(KEY)
    if values is None:
        return
    if not (
        isinstance(values, Sequence)
        and len(values) == 5
        and isinstance(values[0], int | float)
        and all(isinstance(v, int) and v >= 0 for v in values[1:])
    ):
        raise ValueError(f"{KEY} must be [entropy, least, min_tokens, signal, signal]")
