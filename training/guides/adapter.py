"""A guide on disk: PEFT's own format, for the whole policy, though it was trained on the top alone."""

from pathlib import Path
from typing import Any

import torch

from training.guides.halves import TOP, at_layer, layer_of, load_policy, top

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
ASSETS = Path(__file__).parents[2] / "server" / "demo" / "assets" / "guides"
"""Where the shipped ones are, a directory each."""


def save(guide: Any, directory: Path, *, below: int) -> None:
    """Write a trained top's adapter in bf16 with its layers renumbered as the policy's: there are `below` below it."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(guide, save_embedding_layers=False)
    moved = {}
    for name, weight in state.items():
        place = layer_of(name)
        assert place is not None, name
        moved[at_layer(name, place + below)] = weight.detach().to(torch.bfloat16).contiguous()
    save_file(moved, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = guide.peft_config["default"]
    config.base_model_name_or_path = BASE
    config.inference_mode = True
    # Sets, whose order differs from run to run.
    config.target_modules = sorted(config.target_modules)
    config.layers_to_transform = sorted(layer + below for layer in config.layers_to_transform)
    config.save_pretrained(directory)


def load(policy: Path, directory: Path, layers: int = TOP) -> Any:
    """The top of the policy with an adapter merged in, in float32: what the file makes, not what was trained."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_policy(policy), str(directory)).merge_and_unload()
    return top(merged, layers)
