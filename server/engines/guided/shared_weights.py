"""One copy in memory of the weights that a guide has in common with the policy.

A guide that was tuned from the policy by an adapter, or with some layers frozen, holds many of the policy's weights.
"""

import torch
from torch import nn
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

_SHARED = (LinearBase, VocabParallelEmbedding)


def share(guide: nn.Module, policy: nn.Module) -> None:
    """Let `guide` use the policy's modules where the two hold equal weights.

    Only linear maps and embeddings of the same class and name are shared: they depend on nothing but their weights.
    Call this before vLLM rearranges weights for its kernels, which it then does once.
    """
    theirs = dict(policy.named_modules(remove_duplicate=False))
    for name, module in list(guide.named_modules(remove_duplicate=False)):
        other = theirs.get(name)
        if isinstance(module, _SHARED) and other is not None and type(other) is type(module) and other is not module:
            own, same = dict(module.named_parameters()), dict(other.named_parameters())
            if own.keys() == same.keys() and all(_equal(own[key], same[key]) for key in own):
                parent, _, leaf = name.rpartition(".")
                setattr(guide.get_submodule(parent), leaf, other)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
