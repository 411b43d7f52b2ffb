"""Tiny random models with a real tokenizer, for tests of the engine and for measurements of the server's own speed."""

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
CONTEXT = 1024  # tokens
STEP = "<step>"  # marks the end of a step, for process rewards


def random_llama(
    seed: int, kind: Any, vocabulary: int, *, heads: int = 4, layers: int = 2, context: int = CONTEXT, **config: Any
) -> Any:
    """Return a Llama with random weights in float32.

    Args:
        seed: of the weights.
        kind: the Transformers class, such as `LlamaForCausalLM`.
        vocabulary: the number of tokens; 0 is BOS, 1 EOS and 2 padding.
        heads: of attention, half as many for keys and values.
        layers: of the transformer.
        context: tokens.
        config: further fields of `LlamaConfig`.
    """
    import torch
    from transformers import LlamaConfig

    torch.manual_seed(seed)
    made = kind(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            head_dim=32,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
            initializer_range=0.15,
            tie_word_embeddings=False,
            **config,
        )
    )
    return made.to(torch.float32)


def save_with_tokenizer(path: Path, model: Any, words: Any) -> Path:
    """Save a model and its tokenizer `words` as one checkpoint; return `path`."""
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path


def save_model(path: Path, seed: int, kind: Any, words: Any, **config: Any) -> Path:
    """Save a `random_llama` for the tokenizer `words`; return `path`."""
    return save_with_tokenizer(path, random_llama(seed, kind, len(words), **config), words)


def make_tiny_models(root: Path) -> dict[str, Path]:
    """Save models under `root`; return their paths by name.

    policy, classifier (1 output), labels (2 outputs) and process (a value for each token) share a tokenizer; other is a
    classifier with a smaller vocabulary.
    """
    from transformers import (
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        LlamaForTokenClassification,
    )

    shared, other = make_tokenizer(384, CHAT), make_tokenizer(320, None)
    return {
        "policy": save_model(root / "policy", 0, LlamaForCausalLM, shared),
        "classifier": save_model(root / "classifier", 1, LlamaForSequenceClassification, shared, num_labels=1),
        "labels": save_model(root / "labels", 2, LlamaForSequenceClassification, shared, num_labels=2),
        "process": save_model(root / "process", 3, LlamaForTokenClassification, shared, num_labels=1),
        "other": save_model(root / "other", 4, LlamaForSequenceClassification, other, num_labels=1),
    }


def make_tokenizer(size: int, template: str | None) -> Any:
    """Return a byte-level BPE of `size` tokens, trained on `CORPUS`, with a chat template if one is given."""
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
