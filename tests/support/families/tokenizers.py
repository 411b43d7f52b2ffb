"""Small tokenizers of the kinds that the families have, with the special tokens that their templates write."""

from collections.abc import Sequence
from typing import Any

from evaluation.support.tiny_models import CORPUS

LLAMA3 = (
    "{% for m in messages %}{{ bos_token if loop.first else '' }}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{{ bos_token or '' }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# An answer that thinks is read without its thoughts, but for the last one, which has some in any case.
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def byte_level(
    template: str | None,
    special: Sequence[str] = (),
    *,
    bos: str | None = None,
    eos: str = "</s>",
    pad: str = "<pad>",
    begins: bool = False,
) -> Any:
    """Return a byte-level BPE, as Llama 3 and Qwen have.

    Args:
        begins: Whether it puts its BOS before a text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    names = list(dict.fromkeys([pad, *([bos] if bos else []), eos, *special]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet, show_progress=False),
    )
    if begins and bos:
        words.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, words.token_to_id(bos))]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=bos, eos_token=eos, pad_token=pad)
    made.chat_template = template
    return made


def pairs(begin: str, end: str, *, types: bool) -> Any:
    """Return a tokenizer of pairs: `begin` a `end` b `end`, with the token types 0 and 1 if `types`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.BertPreTokenizer()
    seen = {word for text in CORPUS for word, _ in splitter.pre_tokenize_str(text.lower())}
    letters = {letter for word in seen for letter in word}
    # Every second word, so that the others are several pieces. A trainer would find other pieces each time.
    pieces = sorted({*sorted(seen)[::2], *letters, *(f"##{letter}" for letter in letters)})
    vocabulary = ["<pad>", begin, end, "<unk>", *pieces]
    words = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = splitter
    words.add_special_tokens(vocabulary[:4])
    second = 1 if types else 0
    words.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:{second} {end}:{second}",
        special_tokens=[(name, words.token_to_id(name)) for name in (begin, end)],
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        cls_token=begin,
        sep_token=end,
        unk_token="<unk>",
        pad_token="<pad>",
        model_input_names=inputs if types else ["input_ids", "attention_mask"],
    )


def metaspace(alphabet: Sequence[str]) -> Any:
    """Return a tokenizer that reads a text as if a space came before it and puts a BOS there, as Mistral's.

    Args:
        alphabet: Words that are one token each.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    often = [" ".join(f"{word} {word}" for word in alphabet)] * 50
    special = ["<unk>", "<s>", "</s>"]
    words.train_from_iterator(
        [*CORPUS, "\n", *often], trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
