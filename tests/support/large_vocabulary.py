"""Random models of 49,152 tokens whose next-token entropies lie between 1 and 10 nats."""

from pathlib import Path
from typing import Any

from evaluation.support.tiny_models import random_llama, save_with_tokenizer

WORDS = 49_152
LONGEST = 128


def make_large_vocabulary_models(root: Path) -> dict[str, Path]:
    """Save a policy and a guide with the same vocabulary under `root`; return their paths by name."""
    return {"policy": _save(root / "policy", 0, layers=2), "guide": _save(root / "guide", 1, layers=1)}


def _save(path: Path, seed: int, layers: int) -> Path:
    import torch
    from transformers import LlamaForCausalLM

    model = random_llama(seed, LlamaForCausalLM, WORDS, layers=layers, context=LONGEST)
    # The larger a hidden state's first component, the wider the logits are spread and the smaller is the entropy.
    with torch.no_grad():
        model.model.norm.weight[0] = 25.0
    return save_with_tokenizer(path, model, _tokenizer())


def _tokenizer() -> Any:
    """Return a tokenizer of bytes, four special tokens, and tokens that no text is split into."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<s>", "</s>", "<pad>", "<free>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names = [*known, *(f"w{i}" for i in range(WORDS - len(known)))]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_special_tokens({"additional_special_tokens": ["<free>"]})
    return fast
