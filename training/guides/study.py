"""The table of the guides: which laws stand in it, and by what each is scored.

A guide that starts from the policy may gain by sharpening it, as a lower temperature would. So the policy stands beside
it at temperatures 1/(1+w), which are what w means for a guide that has learnt nothing in the plain form. In the ratio
form such a guide changes nothing; there the rows to compare are those of like KL.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.demo.tone import vader
from training.guides import rollouts
from training.guides.evaluate import Mixture, Row, Scorer, measure
from training.guides.verdict import Objective

WEIGHTS = (0.5, 1.0, 2.0)
SHARES = (0.25, 0.5, 0.75)
"""Of the first guide in a mix of two, whose weights add up to one."""


def laws(guides: dict[str, Any], weights: Sequence[float] = WEIGHTS) -> list[Mixture]:
    """The policy, the policy sharpened, each guide at each weight, and mixes where there are two guides."""
    rows = [Mixture("policy"), *(Mixture(f"temperature {1 / (1 + w):.2f}", temperature=1 / (1 + w)) for w in weights)]
    rows += [Mixture(f"{name} w={w:g}", [(guide, w)]) for name, guide in guides.items() for w in weights]
    if len(guides) == 2:
        (first, one), (second, other) = guides.items()
        rows += [Mixture(f"{a:g} {first} + {1 - a:g} {second}", [(one, a), (other, 1 - a)]) for a in SHARES]
    return rows


def scorers(reward: Path, judge: Objective, tokenizer: Any) -> dict[str, Scorer]:
    """The reward that `positive` learnt from, two strangers to it, and the reward that `brief` learnt from."""
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
) -> list[Row]:
    """Every law's row: `n` completions of each prompt, each law with random numbers of its own."""
    from tqdm import tqdm

    rows = []
    bar = tqdm(laws(guides), desc="measuring", unit="law", disable=not progress)
    for seed, law in enumerate(bar):
        rows.append(measure(policy, prompts, law, by, n=n, tokens=rollouts.TOKENS, seed=1000 + seed))
    return rows
