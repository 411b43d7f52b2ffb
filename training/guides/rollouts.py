"""The policy's completions of the training prompts, and their labels for each of the two guides."""

from pathlib import Path
from typing import Any

from server.demo.brevity import short_sentences
from training.guides.halves import TOP
from training.guides.sampling import DrawnCompletion, sample_chunks
from training.sentiment.data import ReviewExample, chat_ids
from training.sentiment.evaluate import rewards

TOKENS = 32
"""Tokens of a completion, at most."""


def prompt_ids(raw: list[str], chat: list[str], tokenizer: Any) -> list[list[int]]:
    """Return the token ids of texts to continue and of messages to answer, in this order."""
    return [
        *(tokenizer.encode(text, add_special_tokens=False) for text in raw),
        *(chat_ids(message, tokenizer) for message in chat),
    ]


def roll_out(
    policy: Any, prompts: list[list[int]], n: int, *, seed: int, progress: bool = True
) -> list[DrawnCompletion]:
    """Draw `n` completions of each prompt at temperature 1, with the hidden states that a guide's top reads."""
    from tqdm import tqdm

    draws: list[DrawnCompletion] = []
    with tqdm(total=n * len(prompts), desc="rollouts", unit="text", disable=not progress) as bar:
        for chunk in sample_chunks(policy, prompts, n, tokens=TOKENS, seed=seed, keep_hidden=TOP):
            draws += chunk
            bar.update(len(chunk))
    return draws


def texts(draws: list[DrawnCompletion], tokenizer: Any) -> list[str]:
    """Return the completions as text, without the end-of-turn token."""
    return [tokenizer.decode(draw.ids, skip_special_tokens=True) for draw in draws]


def sentiment(reward: Path, prompts: list[list[int]], draws: list[DrawnCompletion]) -> list[float]:
    """Return the demo's sentiment reward of each completion after its prompt."""
    # Scoring reads neither the verdict nor the kind of an example.
    return rewards(
        reward, [ReviewExample(prompts[d.prompt] + d.ids, len(prompts[d.prompt]), True, "short") for d in draws]
    )


def brevity(draws: list[DrawnCompletion], tokenizer: Any) -> list[float]:
    """Return minus the words per sentence of each completion."""
    return short_sentences([""] * len(draws), texts(draws, tokenizer))
