"""A guide on disk: an adapter in PEFT's format for the whole policy, though it was trained on the top alone."""

from pathlib import Path
from typing import Any

import torch

from training.guides.halves import TOP, at_layer, layer_of, load_policy, top

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
ASSETS = Path(__file__).parents[2] / "server" / "demo" / "assets" / "guides"
"""The shipped guides, a directory each."""


def save(guide: Any, directory: Path, *, below: int) -> None:
    """Write a trained top's adapter in bf16, its layers renumbered for the whole policy.

    Args:
        guide: a PEFT model on the top.
        directory: where the files go.
        below: the policy's layers below the top.
    """
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
    # These are sets, and their order differs from run to run.
    config.target_modules = sorted(config.target_modules)
    config.layers_to_transform = sorted(layer + below for layer in config.layers_to_transform)
    config.save_pretrained(directory)


def load(policy: Path, directory: Path, layers: int = TOP) -> Any:
    """Return the policy's top of `layers` layers with the adapter in `directory` merged in, in float32."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_policy(policy), str(directory)).merge_and_unload()
    return top(merged, layers)
