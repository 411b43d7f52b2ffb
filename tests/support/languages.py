"""Texts with characters of one to four bytes, and tokenizers that encode them in different ways."""

from typing import Any

TEXTS = {
    "english": "A good answer is short, kind and right.",
    "french": "L’été, naïf et déjà passé — ça ira.",
    "russian": "Хороший ответ краток и добр.",
    "chinese": "好的回答简短、友善、正确。",
    "arabic": "الجواب الجيد قصير ولطيف",
    "emoji": "Well done 🙂👍🏽 and 🏳️‍🌈!",
}


def sentencepiece() -> Any:
    """Return a tokenizer that marks the start of words, and encodes characters outside its vocabulary as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *map(chr, range(33, 127))]
    words += ["▁good", "▁A", "or", "é", "х", "好"]
    merges = [("▁", "A"), ("o", "r")]
    model = models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    made = Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return fast


def prefix() -> Any:
    """Return the same tokenizer with a token before every text."""
    from tokenizers import processors

    made = sentencepiece()
    made._tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def lowering() -> Any:
    """Return a tokenizer of lower-case words, whose tokens do not decode to the text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", *sorted({w for text in TEXTS.values() for w in text.lower().split()})]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")
