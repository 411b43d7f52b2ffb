"""Random models of 49,152 tokens whose next-token entropies lie between 1 and 10 nats."""

from pathlib import Path
from typing import Any

WORDS = 49_152
LONGEST = 128


def make(root: Path) -> dict[str, Path]:
    """A policy, and a guide on its tokens."""
    return {"policy": _save(root / "policy", 0, layers=2), "guide": _save(root / "guide", 1, layers=1)}


def _save(path: Path, seed: int, layers: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=LONGEST,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.15,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    # Logits are the wider, and the entropy is the less, the more of a hidden state lies along the first of its axes.
    with torch.no_grad():
        model.model.norm.weight[0] = 25.0
    model.to(torch.float32).save_pretrained(path)
    _tokenizer().save_pretrained(path)
    return path


def _tokenizer() -> Any:
    """Bytes, four special tokens, and words that no text is split into."""
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
