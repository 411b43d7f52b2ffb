"""Chat templates, and small tokenizers with or without a template and special tokens."""

from typing import Any

from evaluation.support.tiny_models import CORPUS, make_tokenizer

MARKED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
BEGUN = "{{ bos_token }}" + MARKED
CLOSED = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def made(template: str | None, *, size: int = 384, begins: bool = False, ends: bool = False) -> Any:
    """Return a tokenizer of `size` tokens whose `encode` adds a BOS, an EOS, both or neither."""
    from tokenizers.processors import TemplateProcessing

    fast = make_tokenizer(size, template)
    single = ("<s> " if begins else "") + "$A" + (" </s>" if ends else "")
    fast.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    return fast


def made_of_words(*, begins: bool = False) -> Any:
    """Return a tokenizer that puts a space before a text, and removes it in decoding, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    words.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    words.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    words.post_processor = TemplateProcessing(
        single="<s> $A" if begins else "$A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = BEGUN
    return fast
