"""The policy in two parts: a trunk that guides share with it, and a top of which each guide has its own.

A guide's adapter changes the last `TOP` layers only. Below them it computes what the policy computes, so the policy's
hidden states at that depth are all that a guide needs, in training and in sampling alike.
"""

from pathlib import Path
from typing import Any

import torch

TOP = 15
"""Layers of a guide that are its own, of the policy's 30."""


def load_policy(directory: Path) -> Any:
    """The whole policy in float32, which a processor without bfloat16 arithmetic is much quicker at."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def top(model: Any, layers: int = TOP) -> Any:
    """A copy of a Llama's last `layers` layers, norm and head as a Llama of its own; its input is `inputs_embeds`."""
    from transformers import LlamaForCausalLM

    config = type(model.config)(**{**model.config.to_dict(), "num_hidden_layers": layers})
    part = LlamaForCausalLM(config)
    below = model.config.num_hidden_layers - layers
    state = {}
    for name, weight in model.state_dict().items():
        place = layer_of(name)
        if place is None:
            state[name] = weight
        elif place >= below:
            state[at_layer(name, place - below)] = weight
    part.load_state_dict(state)
    return part.to(model.dtype).eval()


def layer_of(name: str) -> int | None:
    """The layer that a weight belongs to, from its name; None for embeddings, norm and head."""
    _, found, after = name.partition(".layers.")
    return int(after.split(".")[0]) if found else None


def at_layer(name: str, layer: int) -> str:
    """The name of the same weight in another layer."""
    before, _, after = name.partition(".layers.")
    return f"{before}.layers.{layer}.{after.split('.', 1)[1]}"
