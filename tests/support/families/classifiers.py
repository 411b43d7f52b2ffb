"""Sequence classifiers that Transformers has itself: decoders with and without a chat template, and encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.families.family import Chat, Family
from tests.support.families.tokenizers import GEMMA, LLAMA3, QWEN3, byte_level, pairs
from tests.support.reference import tokenizer

DECODER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
}
ENCODER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 320,
    "initializer_range": 0.15,
}


def save(path: Path, kind: str, words: Any, seed: int, **config: Any) -> None:
    """Save a classifier of Transformers' class `kind` with random weights, and its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(seed)
    cls = getattr(transformers, kind)
    ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    made = cls(cls.config_class(vocab_size=len(words), **{**ids, **config}))
    made.to(torch.float32).save_pretrained(path)
    words.save_pretrained(path)


def logits(path: Path, **inputs: Any) -> Any:
    """Return the model's logits of one text: [outputs]."""
    import torch
    from transformers import AutoModelForSequenceClassification

    # Gemma 2 caps its attention's logits, which only this implementation of Transformers does.
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model.eval()(**{name: torch.tensor([ids]) for name, ids in inputs.items()}).logits[0]


def templated(path: Path, chat: Chat) -> float:
    """As Skywork's cards do: the rendered chat is tokenized as a text, without the BOS that the template writes."""
    words = tokenizer(path)
    text = words.apply_chat_template(chat, tokenize=False)
    if words.bos_token is not None and text.startswith(words.bos_token):
        text = text[len(words.bos_token) :]
    return float(logits(path, input_ids=words(text)["input_ids"])[0])


def as_text(path: Path, chat: Chat) -> float:
    """One text after the other."""
    text = "\n".join(message["content"] for message in chat)
    return float(logits(path, input_ids=tokenizer(path)(text)["input_ids"])[0])


def as_pair(path: Path, chat: Chat) -> float:
    """As OpenAssistant's cards do: question and answer are the tokenizer's pair."""
    question = "\n".join(message["content"] for message in chat[:-1])
    return float(logits(path, **tokenizer(path)(question, chat[-1]["content"]))[0])


def of_answer(label: int) -> Callable[[Path, Chat], float]:
    """As sentiment and toxicity classifiers do: the probability of a class, from the answer alone."""

    def score(path: Path, chat: Chat) -> float:
        return float(logits(path, **tokenizer(path)(chat[-1]["content"])).softmax(-1)[label])

    return score


def llama(path: Path) -> None:
    special = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    words = byte_level(LLAMA3, special, bos="<|begin_of_text|>", eos="<|eot_id|>", begins=True)
    save(path, "LlamaForSequenceClassification", words, 1, num_labels=1, **DECODER)


def qwen3(path: Path) -> None:
    words = byte_level(QWEN3, ["<|im_start|>"], eos="<|im_end|>", pad="<|endoftext|>")
    save(path, "Qwen3ForSequenceClassification", words, 2, num_labels=1, **DECODER)


def gemma2(path: Path) -> None:
    words = byte_level(GEMMA, ["<start_of_turn>", "<end_of_turn>"], bos="<bos>", eos="<eos>", begins=True)
    limits = {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 32, "sliding_window": 16}
    save(path, "Gemma2ForSequenceClassification", words, 3, num_labels=1, **DECODER, **limits)


def ends_as_padded(template: str | None = None) -> Any:
    """Return a tokenizer whose padding token is the one that ends an answer, as of many decoders."""
    return byte_level(template, eos="<|endoftext|>", pad="<|endoftext|>")


def gpt2(path: Path) -> None:
    size = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256, "initializer_range": 0.15}
    save(path, "GPT2ForSequenceClassification", ends_as_padded(), 4, num_labels=1, **size)


def bert(path: Path) -> None:
    save(path, "BertForSequenceClassification", pairs("[CLS]", "[SEP]", types=True), 5, num_labels=1, **ENCODER)


def roberta(path: Path) -> None:
    words = pairs("<s>", "</s>", types=False)
    save(path, "RobertaForSequenceClassification", words, 6, num_labels=2, type_vocab_size=1, **ENCODER)


def modernbert(path: Path) -> None:
    words = pairs("[CLS]", "[SEP]", types=False)
    own = {"classifier_pooling": "mean", "local_attention": 16, "global_attn_every_n_layers": 2}
    ids = {"cls_token_id": words.cls_token_id, "sep_token_id": words.sep_token_id, "bos_token_id": None}
    save(path, "ModernBertForSequenceClassification", words, 7, num_labels=1, **ENCODER, **own, **ids)


CLASSIFIERS = (
    Family("skywork_llama", llama, templated, {"kind": "classifier"}),
    Family("skywork_qwen3", qwen3, templated, {"kind": "classifier"}),
    Family("skywork_gemma2", gemma2, templated, {"kind": "classifier"}),
    Family("gpt2", gpt2, as_text, {"kind": "classifier", "template": "none"}),
    Family("bert_pair", bert, as_pair, {"kind": "classifier", "template": "pair"}),
    Family("modernbert_pair", modernbert, as_pair, {"kind": "classifier", "template": "pair"}),
    Family(
        "roberta_answer",
        roberta,
        of_answer(1),
        {"kind": "classifier", "chat_template": "<s>{{ messages[-1].content }}</s>", "label": 1, "activation": True},
    ),
)
