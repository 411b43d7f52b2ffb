"""Chat templates, and small tokenizers that have one of them or none and add special tokens or none."""

from typing import Any

from evaluation.tiny import tokenizer

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
    """A tokenizer whose `encode` adds a BOS, an EOS, both or none."""
    from tokenizers.processors import TemplateProcessing

    fast = tokenizer(size, template)
    single = ("<s> " if begins else "") + "$A" + (" </s>" if ends else "")
    fast.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    return fast
