"""The tokenizer: a byte-level BPE trained on the world's own sentences, with a chat template.

A dialogue is `<bos>user: QUESTION\\nassistant: ANSWER<eos>`. The answer's first token starts with the space after the
colon, so no token belongs to both prompt and answer: tokenizing them separately, together or as chat messages gives the
same ids.
"""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.garden.grammar import sample_dialogue

PAD, BOS, EOS = 0, 1, 2
_SPECIAL = ("<pad>", "<bos>", "<eos>")
_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ message['role'] + ': ' + (message['content'] | trim) }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nassistant:' }}{% endif %}"
)


def prompt_text(question: str) -> str:
    """Return the text that the policy continues."""
    return f"user: {question}\nassistant:"


def build_tokenizer(seed: int, dialogues: int = 4000, vocabulary: int = 1024) -> Any:
    """Train a tokenizer of at most `vocabulary` tokens on `dialogues` sampled dialogues."""
    rng = random.Random(f"tokenizer/{seed}")
    sampled = (sample_dialogue(rng) for _ in range(dialogues))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((f"{prompt_text(d.question)} {d.response}" for d in sampled), trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def encode_prompt(tokenizer: Any, question: str) -> list[int]:
    """Return the token ids of the prompt, `<bos>` first."""
    ids: list[int] = tokenizer.encode(prompt_text(question))
    return ids


def encode_response(tokenizer: Any, response: str) -> list[int]:
    """Return the token ids of a finished answer, `<eos>` last."""
    ids: list[int] = tokenizer.encode(" " + response, add_special_tokens=False)
    return [*ids, EOS]


def decode_response(tokenizer: Any, tokens: list[int]) -> str:
    """Return the answer's text, without special tokens and without the leading space."""
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    return text.strip()
