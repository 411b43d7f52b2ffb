"""What a guide is worth on held-out prompts: rewards, independent scores, KL, variety, beside what temperature gives.

Each number is a mean over prompts, with the standard error of that mean over prompts; KL is in nats of the policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from training.guided_reference import Guides
from training.guides.sampling import Draw, sample

Scorer = Callable[[list[list[int]], list[Draw]], list[float]]
"""Prompts and draws to one score per draw."""


@dataclass(frozen=True)
class Mixture:
    """A row of the table: what is sampled from."""

    name: str
    guides: Guides = ()
    ratio: bool = True
    temperature: float = 1.0


Row = dict[str, Any]


def measure(
    policy: Any,
    prompts: list[list[int]],
    law: Mixture,
    scorers: dict[str, Scorer],
    *,
    n: int,
    tokens: int,
    seed: int,
) -> Row:
    """A row: the law's name, [mean, standard error] of each score, of KL and of the tokens, and distinct-2."""
    chunks = sample(
        policy, prompts, n, tokens=tokens, seed=seed, guides=law.guides, ratio=law.ratio, temperature=law.temperature
    )
    draws = [draw for chunk in chunks for draw in chunk]
    columns = {name: scorer(prompts, draws) for name, scorer in scorers.items()}
    columns["kl"] = [draw.kl for draw in draws]
    columns["tokens"] = [float(len(draw.ids)) for draw in draws]
    row: Row = {name: list(mean_and_error(draws, values)) for name, values in columns.items()}
    return {"law": law.name, **row, "distinct_2": round(distinct_2(draws), 3)}


def mean_and_error(draws: Sequence[Draw], values: Sequence[float]) -> tuple[float, float]:
    """The mean over prompts of each prompt's mean, and its standard error: draws of one prompt are not independent."""
    by_prompt: dict[int, list[float]] = {}
    for draw, value in zip(draws, values, strict=True):
        by_prompt.setdefault(draw.prompt, []).append(value)
    means = [fmean(group) for group in by_prompt.values()]
    return round(fmean(means), 3), round(stdev(means) / len(means) ** 0.5, 3)


def distinct_2(draws: Sequence[Draw]) -> float:
    """Different pairs of neighbouring tokens, as a share of all such pairs, in all draws together."""
    pairs = [pair for draw in draws for pair in pairwise(draw.ids)]
    return len(set(pairs)) / max(1, len(pairs))


def table(rows: list[Row]) -> str:
    """The rows as text, one line each."""
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
