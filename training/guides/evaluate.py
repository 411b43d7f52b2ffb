"""Measurements of a guided law on held-out prompts: rewards, independent scores, KL, length and variety.

Each number is a mean over prompts with its standard error; KL is to the policy, in nats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from training.guided_reference import Guides
from training.guides.sampling import DrawnCompletion, sample_chunks

Scorer = Callable[[list[list[int]], list[DrawnCompletion]], list[float]]
"""Takes prompts and completions; gives one score for each completion."""


@dataclass(frozen=True)
class Mixture:
    """The law that a row of the table samples from."""

    name: str
    guides: Guides = ()
    ratio: bool = True
    temperature: float = 1.0


LawRow = dict[str, Any]


def measure_law(
    policy: Any,
    prompts: list[list[int]],
    law: Mixture,
    scorers: dict[str, Scorer],
    *,
    n: int,
    tokens: int,
    seed: int,
) -> LawRow:
    """Sample from a law, and return its row of the table.

    Args:
        policy: a Llama in float32.
        prompts: token ids.
        law: what to sample from.
        scorers: by column.
        n: completions of each prompt.
        tokens: of a completion, at most.
        seed: of all draws.

    Returns:
        The law's name, [mean, standard error] of each score, of the KL and of the number of tokens, and distinct-2.
    """
    chunks = sample_chunks(
        policy, prompts, n, tokens=tokens, seed=seed, guides=law.guides, ratio=law.ratio, temperature=law.temperature
    )
    draws = [draw for chunk in chunks for draw in chunk]
    columns = {name: scorer(prompts, draws) for name, scorer in scorers.items()}
    columns["kl"] = [draw.kl for draw in draws]
    columns["tokens"] = [float(len(draw.ids)) for draw in draws]
    row: LawRow = {name: list(mean_and_error(draws, values)) for name, values in columns.items()}
    return {"law": law.name, **row, "distinct_2": round(distinct_2(draws), 3)}


def mean_and_error(draws: Sequence[DrawnCompletion], values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over prompts of each prompt's mean, and its standard error.

    Prompts are the unit, since completions of one prompt are not independent.
    """
    by_prompt: dict[int, list[float]] = {}
    for draw, value in zip(draws, values, strict=True):
        by_prompt.setdefault(draw.prompt, []).append(value)
    means = [fmean(group) for group in by_prompt.values()]
    return round(fmean(means), 3), round(stdev(means) / len(means) ** 0.5, 3)


def distinct_2(draws: Sequence[DrawnCompletion]) -> float:
    """Return the share of different pairs among all pairs of neighbouring tokens, in all completions together."""
    pairs = [pair for draw in draws for pair in pairwise(draw.ids)]
    return len(set(pairs)) / max(1, len(pairs))


def table(rows: list[LawRow]) -> str:
    """Return the rows as text, one line each."""
    columns = [name for name in rows[0] if name != "law"]
    width = max(len(row["law"]) for row in rows)
    lines = [f"{'':{width}} " + " ".join(f"{name:>15}" for name in columns)]
    for row in rows:
        cells = [
            f"{value[0]:8.2f} ±{value[1]:5.2f}" if isinstance(value, list) else f"{value:8.2f}"
            for value in (row[name] for name in columns)
        ]
        lines.append(f"{row['law']:{width}} " + " ".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)
