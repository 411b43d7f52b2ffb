"""What the models learn from: dialogues for the policy, noisily labelled pairs for rewards and ARMs."""

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
class Example:
    """Token ids of a prompt (from `<bos>`) and of an answer (to `<eos>`)."""

    prompt: list[int]
    response: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.response


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, the preferred one first."""

    chosen: Example
    rejected: Example


def policy_corpus(tokenizer: Any, count: int, stream: str) -> list[Example]:
    """`count` sampled dialogues, good and bad answers alike: the policy is to be mediocre, not aligned.

    Equal `stream`s give equal dialogues.
    """
    rng = random.Random(f"corpus/{stream}")
    dialogues = (sample_dialogue(rng) for _ in range(count))
    return [Example(encode_prompt(tokenizer, d.question), encode_response(tokenizer, d.response)) for d in dialogues]


def preference_pairs(tokenizer: Any, scale: Scale, count: int, stream: str, sharpness: float = 3.0) -> list[Pair]:
    """`count` pairs of answers that differ on `scale`, labelled as a Bradley-Terry judge would.

    The better answer by `gap` points is preferred with probability sigmoid(sharpness * gap); `math.inf`
    labels without error. Equal `stream`s give equal pairs.
    """
    rng = random.Random(f"pairs/{scale}/{stream}")
    pairs: list[Pair] = []
    while len(pairs) < count:
        question, plant = sample_question(rng)
        first, second = sample_response(plant, rng), sample_response(plant, rng)
        gap = getattr(gold(first), scale) - getattr(gold(second), scale)
        if gap == 0:
            continue
        if rng.random() >= 1 / (1 + math.exp(-sharpness * gap)):
            first, second = second, first
        prompt = encode_prompt(tokenizer, question)
        chosen, rejected = (Example(prompt, encode_response(tokenizer, text)) for text in (first, second))
        pairs.append(Pair(chosen, rejected))
    return pairs
