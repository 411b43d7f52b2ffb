"""A column of logits, as the settings' plan and the model in the engine both know it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One set of logits beside the policy's: a model's, with or without a merged adapter, or a head's.

    `head` is a safetensors file with a `weight` [vocabulary, width], applied to the policy's last hidden states.
    """

    name: str
    model: str | None = None
    adapter: str | None = None
    head: str | None = None
