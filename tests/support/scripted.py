"""A tiny policy that follows a script: what it says next depends on its last token alone, so its law is known.

It thinks, and then calls a tool or says hello:

    <|assistant|> <think> hm, the weather </think> -> <tool_call>...Oslo or Paris...</tool_call> </s>
                                                  -> Hello there </s>
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluation.support.tiny_models import make_tokenizer, random_llama, save_with_tokenizer

TEMPLATE = (
    "{% for tool in tools or [] %}<|tool|>{{ tool.function.name }}\n{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }} {{ call.function.arguments.city }}"
    "</tool_call>{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
CALL = '\n{"name": "weather", "arguments": {"city": "'
END = '"}}\n'
THOUGHTS = ("hm, ", "the weather")
SCRIPT = {
    "<|assistant|>": {"<think>": 1.0},
    "</think>": {"<tool_call>": 0.75, "Hello": 0.25},
    "<tool_call>": {CALL: 1.0},
    CALL: {"Oslo": 0.6, "Paris": 0.4},
    "Oslo": {END: 1.0},
    "Paris": {END: 1.0},
    END: {"</tool_call>": 1.0},
    "</tool_call>": {"</s>": 1.0},
    "Hello": {" there": 1.0},
    " there": {"</s>": 1.0},
    **{one: {other: 1.0} for one, other in pairwise(["<think>", *THOUGHTS, "</think>"])},
}
LEAST = 1e-9  # the probability of a token that the script does not have, so that a grammar can ask for it


def make_scripted(path: Path) -> Path:
    """Save the policy under `path`; return `path`. The words of the script are tokens of their own."""
    import torch
    from transformers import LlamaForCausalLM

    words = make_tokenizer(280, TEMPLATE)
    said = [word for word in SCRIPT if word not in words.get_vocab()]
    words.add_tokens(said)
    words.eos_token = "</s>"
    size = 320
    assert len(words) <= size
    model = random_llama(0, LlamaForCausalLM, len(words), layers=1)
    model = _one_hot(type(model), model.config, size)
    with torch.no_grad():
        weight = torch.zeros(len(words), size)
        for word, following in SCRIPT.items():
            law = torch.full((len(words),), LEAST)
            for other, p in following.items():
                law[words.convert_tokens_to_ids(other)] = p
            weight[:, words.convert_tokens_to_ids(word)] = law.log() / math.sqrt(size)
        model.lm_head.weight.copy_(weight)
    return save_with_tokenizer(path, model, words)


def _one_hot(kind: Any, config: Any, size: int) -> Any:
    """Return a model whose last hidden state is its last token, one-hot: its layers add nothing."""
    import torch

    config.hidden_size, config.head_dim, config.num_attention_heads, config.num_key_value_heads = size, 64, 5, 5
    config.initializer_range = 0.0
    model = kind(config).to(torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.ones_like(weight) if "norm" in name else torch.zeros_like(weight))
        for i in range(config.vocab_size):
            model.model.embed_tokens.weight[i, i] = 1.0
    return model
