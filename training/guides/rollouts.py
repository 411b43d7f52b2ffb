"""The policy's own answers to the training prompts, and what each of the two guides is to like about them."""

from pathlib import Path
from typing import Any

from server.demo.brevity import short_sentences
from training.guides.halves import TOP
from training.guides.sampling import Draw, sample
from training.sentiment.data import Example, chat_ids
from training.sentiment.evaluate import rewards

TOKENS = 32
"""At most, of a completion."""


def prompt_ids(raw: list[str], chat: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of texts to continue and of messages to answer, in this order."""
    return [
        *(tokenizer.encode(text, add_special_tokens=False) for text in raw),
        *(chat_ids(message, tokenizer) for message in chat),
    ]


def roll_out(policy: Any, prompts: list[list[int]], n: int, *, seed: int, progress: bool = True) -> list[Draw]:
    """`n` completions of each prompt at temperature 1, with the hidden states that a guide's top reads."""
    from tqdm import tqdm

    draws: list[Draw] = []
    with tqdm(total=n * len(prompts), desc="rollouts", unit="text", disable=not progress) as bar:
        for chunk in sample(policy, prompts, n, tokens=TOKENS, seed=seed, keep_hidden=TOP):
            draws += chunk
            bar.update(len(chunk))
    return draws


def texts(draws: list[Draw], tokenizer: Any) -> list[str]:
    """The draws as text, without the end-of-turn token."""
    return [tokenizer.decode(draw.ids, skip_special_tokens=True) for draw in draws]


def sentiment(reward: Path, prompts: list[list[int]], draws: list[Draw]) -> list[float]:
    """The demo's sentiment reward of each draw after its prompt."""
    # The verdict and kind of an example are not read where it is only scored.
    return rewards(reward, [Example(prompts[d.prompt] + d.ids, len(prompts[d.prompt]), True, "short") for d in draws])


def brevity(draws: list[Draw], tokenizer: Any) -> list[float]:
    """Minus the words per sentence of each draw."""
    return short_sentences([""] * len(draws), texts(draws, tokenizer))
