"""One pass through the layers that a guide has in common with the policy, at the bottom of both.

A guide that was tuned from the policy in its top layers has the same hidden states, keys and values as the policy in
the lower ones. So it starts from the policy's hidden states at the first layer that differs, and neither computes nor
caches anything below that layer.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import nn
from vllm.model_executor.models.llama import LlamaModel
from vllm.model_executor.models.qwen2 import Qwen2Model
from vllm.model_executor.models.utils import PPMissingLayer

# Their forward takes hidden states in place of embeddings unchanged, starts at `start_layer`, and can return the hidden
# states before any layer. Other models may scale embeddings, or do more before the first layer.
_KNOWN = (LlamaModel.forward, Qwen2Model.forward)
_NAMES = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")


def common_layers(guide: nn.Module, policy: nn.Module) -> int:
    """Return how many of the lowest layers are the same in both; 0 if that is unknown or cannot be used."""
    own, other = getattr(guide, "model", None), getattr(policy, "model", None)
    if type(own) is not type(other) or getattr(type(own), "forward", None) not in _KNOWN:
        return 0
    assert own is not None
    assert other is not None
    if _shape(own.config) != _shape(other.config) or not _equal(own.embed_tokens, other.embed_tokens):
        return 0
    count = 0
    for ours, theirs in zip(own.layers, other.layers, strict=True):
        if not _equal(ours, theirs):
            break
        count += 1
    return min(count, len(own.layers) - 1)  # the last one goes through the norm with its residual


def start_at_layer(guide: Any, name: str, layers: int, registered: MutableMapping[str, Any]) -> None:
    """Let `guide`, built as `name`, start at layer `layers`; the layers below get no KV cache from vLLM."""
    guide.model.start_layer = layers
    for i in range(layers):
        guide.model.layers[i] = PPMissingLayer()
        for key in [key for key in registered if key.startswith(f"{name}.model.layers.{i}.")]:
            del registered[key]


def _shape(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration that a layer may depend on."""
    values: dict[str, Any] = config.to_dict()
    return {key: v for key, v in values.items() if key not in _NAMES and not key.startswith("decant_")}


def _equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = dict(a.named_parameters()), dict(b.named_parameters())
    return (
        type(a) is type(b) and ours.keys() == theirs.keys() and all(torch.equal(w, theirs[k]) for k, w in ours.items())
    )
