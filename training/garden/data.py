"""Training data: dialogues for the policy, pairs with noisy labels for rewards and ARMs."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Literal

from training.garden.grammar import gold, sample_dialogue, sample_question, sample_response
from training.garden.tokenizer import encode_prompt, encode_response

Scale = Literal["helpful", "harmless"]
SCALES: tuple[Scale, Scale] = ("helpful", "harmless")


@dataclass(frozen=True)
class DialogueExample:
    """Token ids of a prompt (from `<bos>`) and of an answer (to `<eos>`)."""

    prompt: list[int]
    response: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.response


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one prompt, the preferred one first."""

    chosen: DialogueExample
    rejected: DialogueExample


def policy_corpus(tokenizer: Any, count: int, stream: str) -> list[DialogueExample]:
    """Return `count` sampled dialogues with good and bad answers, so that the policy is mediocre and not aligned.

    Equal `stream`s give equal dialogues.
    """
    rng = random.Random(f"corpus/{stream}")
    dialogues = (sample_dialogue(rng) for _ in range(count))
    return [
        DialogueExample(encode_prompt(tokenizer, d.question), encode_response(tokenizer, d.response)) for d in dialogues
    ]


def preference_pairs(
    tokenizer: Any, scale: Scale, count: int, stream: str, sharpness: float = 3.0
) -> list[PreferencePair]:
    """Return pairs of answers that differ on a scale, labelled by the Bradley-Terry model.

    Args:
        tokenizer: the world's own.
        scale: what the label is about.
        count: pairs.
        stream: equal streams give equal pairs.
        sharpness: an answer that is better by `gap` points is preferred with probability sigmoid(sharpness * gap);
            `math.inf` labels without error.
    """
    rng = random.Random(f"pairs/{scale}/{stream}")
    pairs: list[PreferencePair] = []
    while len(pairs) < count:
        question, plant = sample_question(rng)
        first, second = sample_response(plant, rng), sample_response(plant, rng)
        gap = getattr(gold(first), scale) - getattr(gold(second), scale)
        if gap == 0:
            continue
        if rng.random() >= 1 / (1 + math.exp(-sharpness * gap)):
            first, second = second, first
        prompt = encode_prompt(tokenizer, question)
        chosen, rejected = (DialogueExample(prompt, encode_response(tokenizer, text)) for text in (first, second))
        pairs.append(PreferencePair(chosen, rejected))
    return pairs
