"""Tiny random models with a real tokenizer, made on the spot: for tests of the engine and of the server's own speed."""

from pathlib import Path
from typing import Any

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "A good answer is short, kind and right; a bad one is none of these.",
    "How much wood would a woodchuck chuck if a woodchuck could chuck wood?",
    "import math\nfor i in range(10):\n    print(math.sqrt(i))\n",
] * 20
LONGEST = 1024
STEP = "<step>"  # what marks the end of a step, for process rewards


def save_model(path: Path, seed: int, model: Any, words: Any, *, heads: int = 4, **config: Any) -> Path:
    """Save a random Llama of the class `model` in float32, with its tokenizer `words`; return `path`."""
    import torch
    from transformers import LlamaConfig

    torch.manual_seed(seed)
    made = model(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            head_dim=32,
            max_position_embeddings=LONGEST,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
            initializer_range=0.15,
            tie_word_embeddings=False,
            **config,
        )
    )
    made.to(torch.float32).save_pretrained(path)
    words.save_pretrained(path)
    return path


def make(root: Path) -> dict[str, Path]:
    """policy, classifier (1 output), labels (2 outputs), process (a value per token), other (own vocabulary)."""
    from transformers import (
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        LlamaForTokenClassification,
    )

    shared, other = tokenizer(384, CHAT), tokenizer(320, None)

    def save(name: str, seed: int, model: Any, words: Any, **config: Any) -> Path:
        return save_model(root / name, seed, model, words, **config)

    return {
        "policy": save("policy", 0, LlamaForCausalLM, shared),
        "classifier": save("classifier", 1, LlamaForSequenceClassification, shared, num_labels=1),
        "labels": save("labels", 2, LlamaForSequenceClassification, shared, num_labels=2),
        "process": save("process", 3, LlamaForTokenClassification, shared, num_labels=1),
        "other": save("other", 4, LlamaForSequenceClassification, other, num_labels=1),
    }


def make_policy(root: Path) -> Path:
    """Only the policy."""
    return make(root)["policy"]


def tokenizer(size: int, template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", STEP]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = template
    return fast
