"""Held-out accuracy of a built reward, and of VADER on the same texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from server.demo.tone import vader
from training.sentiment.data import ReviewExample
from training.sentiment.train import collate, every_score

SLICES: dict[str, Callable[[ReviewExample], bool]] = {
    "all": lambda _: True,
    "short": lambda example: example.kind == "short",
    "long": lambda example: example.kind == "long",
    "cut": lambda example: example.cut,
    "whole": lambda example: not example.cut,
    "chat": lambda example: example.chat,
}


def rewards(directory: Path, examples: list[ReviewExample], *, rows: int = 32) -> list[float]:
    """Return the reward of each example by Transformers, in float32, from the bf16 weights in `directory`."""
    from transformers import LlamaForSequenceClassification

    model = LlamaForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
    scores = [0.0] * len(examples)
    with torch.no_grad():
        for start in range(0, len(order), rows):
            chunk = order[start : start + rows]
            batch = collate([examples[i] for i in chunk])
            every = every_score(model, batch)
            for row, i in enumerate(chunk):
                scores[i] = float(every[row, batch.last[row]])
    return scores


def lexicon(examples: list[ReviewExample], tokenizer: Any) -> list[float]:
    """Return VADER's score of each example's text, without its prompt."""
    texts = [tokenizer.decode(example.ids[example.start :], skip_special_tokens=True) for example in examples]
    return vader([""] * len(texts), texts)


def accuracy(scores: list[float], examples: list[ReviewExample]) -> dict[str, float]:
    """Return, for each slice, the share of examples with a score of the right sign."""
    right = [(score > 0) == example.positive for score, example in zip(scores, examples, strict=True)]
    table = {}
    for name, belongs in SLICES.items():
        chosen = [ok for ok, example in zip(right, examples, strict=True) if belongs(example)]
        table[name] = round(sum(chosen) / len(chosen), 4)
    return table
