"""The table of the guides: its laws and its scores.

A guide that starts from the policy may gain by merely sharpening it, as a lower temperature does. So the table has rows
of the policy at the temperatures 1/(1+w): in plain form, a guide of weight w that has learnt nothing gives that law. In
ratio form such a guide changes nothing, and the rows to compare are those with a similar KL.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.demo.tone import vader
from training.guides import rollouts
from training.guides.evaluate import LawRow, Mixture, Scorer, measure_law
from training.guides.review_judge import ReviewJudge

WEIGHTS = (0.5, 1.0, 2.0)
SHARES = (0.25, 0.5, 0.75)
"""Weights of the first guide in a mix of two; the two weights sum to one."""


def laws(guides: dict[str, Any], weights: Sequence[float] = WEIGHTS) -> list[Mixture]:
    """Return the policy, also at lower temperatures, each guide at each weight, and mixes if there are two guides."""
    rows = [Mixture("policy"), *(Mixture(f"temperature {1 / (1 + w):.2f}", temperature=1 / (1 + w)) for w in weights)]
    rows += [Mixture(f"{name} w={w:g}", [(guide, w)]) for name, guide in guides.items() for w in weights]
    if len(guides) == 2:
        (first, one), (second, other) = guides.items()
        rows += [Mixture(f"{a:g} {first} + {1 - a:g} {second}", [(one, a), (other, 1 - a)]) for a in SHARES]
    return rows


def scorers(reward: Path, judge: ReviewJudge, tokenizer: Any) -> dict[str, Scorer]:
    """Return the reward that `positive` learnt from, two scores independent of it, and the one `brief` learnt from."""
    return {
        "reward": lambda prompts, draws: rollouts.sentiment(reward, prompts, draws),
        "vader": lambda _, draws: vader([""] * len(draws), rollouts.texts(draws, tokenizer)),
        "judge": lambda _, draws: judge(rollouts.texts(draws, tokenizer)),
        "brevity": lambda _, draws: rollouts.brevity(draws, tokenizer),
    }


def study(
    policy: Any,
    prompts: list[list[int]],
    guides: dict[str, Any],
    by: dict[str, Scorer],
    *,
    n: int,
    progress: bool = True,
) -> list[LawRow]:
    """Measure every law on `n` completions of each prompt, with a seed of its own; return the table's rows."""
    from tqdm import tqdm

    rows = []
    bar = tqdm(laws(guides), desc="measuring", unit="law", disable=not progress)
    for seed, law in enumerate(bar):
        rows.append(measure_law(policy, prompts, law, by, n=n, tokens=rollouts.TOKENS, seed=1000 + seed))
    return rows
