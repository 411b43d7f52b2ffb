"""The policy in two parts: lower layers that the guides share with it, and a top that each guide has of its own.

A guide's adapter changes the last `TOP` layers only. Below them a guide computes the same as the policy, so it needs
only the policy's hidden states at that depth, in training and in sampling.
"""

from pathlib import Path
from typing import Any

import torch

TOP = 15
"""The layers of a guide that differ from the policy's, of 30."""


def load_policy(directory: Path) -> Any:
    """Load the whole policy in float32, which is much quicker on a processor without bfloat16 arithmetic."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def top(model: Any, layers: int = TOP) -> Any:
    """Return a copy of a Llama's last `layers` layers, norm and head as a Llama; its input is `inputs_embeds`."""
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
    """Return the layer of a weight, from its name; None for embeddings, norm and head."""
    _, found, after = name.partition(".layers.")
    return int(after.split(".")[0]) if found else None


def at_layer(name: str, layer: int) -> str:
    """Return the name of the same weight in another layer."""
    before, _, after = name.partition(".layers.")
    return f"{before}.layers.{layer}.{after.split('.', 1)[1]}"
