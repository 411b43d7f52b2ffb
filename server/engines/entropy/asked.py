"""What a request asks of the logits processor, as it travels in `SamplingParams.extra_args`."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

KEY = "decant_cut"


@dataclass(frozen=True)
class Signals:
    """Two token ids that stop a request without being part of its answer.

    `entropy` is drawn where the next token's entropy is at the threshold, `collision` where it is below, but the policy
    itself could draw one of the two: then that token has to come from a request that reserves neither.
    """

    entropy: int
    collision: int


@dataclass(frozen=True)
class Asked:
    """Stop at an entropy of at least `entropy` nats, after `least` tokens; ban the end before `min_tokens`."""

    entropy: float
    least: int
    min_tokens: int
    signals: Signals

    def put_into(self, params: Any) -> None:
        """Ask this in vLLM's `SamplingParams`, whose own `min_tokens` would keep a signal from being drawn."""
        values = [self.entropy, self.least, self.min_tokens, *astuple(self.signals)]
        params.extra_args = {**(params.extra_args or {}), KEY: values}
        params.stop_token_ids = [*params.stop_token_ids, *astuple(self.signals)]
        params.min_tokens = 0


def asked(extra: dict[str, Any] | None) -> Asked | None:
    """What a request asks, or None for one that asks nothing."""
    values = (extra or {}).get(KEY)
    if values is None:
        return None
    entropy, least, min_tokens, *signals = values
    return Asked(float(entropy), least, min_tokens, Signals(*signals))


def check(extra: dict[str, Any] | None) -> None:
    """Raise ValueError unless what is asked is five numbers, all but the first whole."""
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
