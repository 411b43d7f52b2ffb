"""LoRA adapters merged into their base's weights while these are read: W + scale * B A, in PEFT's format."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
# Options that would change the merge: each must be absent or off.
_REFUSED = ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "use_qalora")


def read_config(adapter: str) -> dict[str, Any]:
    """Return the adapter's configuration. Raises ValueError if it is not a plain LoRA."""
    config: dict[str, Any] = json.loads(_file(adapter, CONFIG).read_text(encoding="utf-8"))
    unsupported = [name for name in _REFUSED if config.get(name)]
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    if config.get("peft_type") != "LORA" or unsupported:
        what = ", ".join(unsupported) or f"peft_type {config.get('peft_type')}"
        raise ValueError(f"the adapter {adapter} is not a plain LoRA ({what}): merge it with PEFT, and name the result")
    return config


def merged(weights: Iterable[tuple[str, Tensor]], adapter: str) -> Iterator[tuple[str, Tensor]]:
    """Yield `weights` with the adapter's change added in float32. Raises ValueError if a change has no weight."""
    config = read_config(adapter)
    rank = config["r"]
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    changes = _pairs(adapter)
    for name, weight in weights:
        pair = changes.pop(name, None)
        if pair is not None:
            a, b = pair
            if (b.shape[0], a.shape[1]) != tuple(weight.shape):
                raise ValueError(f"the adapter {adapter} does not fit its base: {name} is {tuple(weight.shape)}")
            weight = (weight.float() + scale * (b.float() @ a.float())).to(weight.dtype)
        yield name, weight
    if changes:
        raise ValueError(f"the adapter {adapter} changes {len(changes)} weights that its base lacks: {min(changes)}")


def _pairs(adapter: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A and B by the name of the weight that they change."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(_file(adapter, WEIGHTS))
    names = {key.removesuffix(_A).removesuffix(_B) for key in tensors}
    try:
        pairs = {f"{n.removeprefix(_PREFIX)}.weight": (tensors[n + _A], tensors[n + _B]) for n in names}
    except KeyError as error:
        raise ValueError(f"the adapter {adapter} holds more than A and B of linear layers: {error}") from error
    return pairs


def _file(adapter: str, name: str) -> Path:
    """Return a file of an adapter, which is a folder or a model id."""
    from transformers.utils import cached_file

    return Path(cached_file(adapter, name))
