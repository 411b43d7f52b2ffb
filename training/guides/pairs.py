"""Pairs of completions of one prompt, the better one first, from rollouts and their labels."""

import random
from dataclasses import dataclass

from training.guides.sampling import Draw


@dataclass(frozen=True)
class Pair:
    """Two draws of one prompt; `start` is the prompt's length in tokens."""

    start: int
    chosen: Draw
    rejected: Draw


def pairs_of(
    prompts: list[list[int]], draws: list[Draw], labels: list[float], *, ends: int, per: int, gap: float, seed: int
) -> list[Pair]:
    """Each of a prompt's `ends` best draws with `per` of its `ends` worst, chosen at random, shuffled.

    Pairs whose labels differ by less than `gap` are left out: their order says more about the label than the text.
    """
    rng = random.Random(seed)
    by_prompt: dict[int, list[int]] = {}
    for place, draw in enumerate(draws):
        by_prompt.setdefault(draw.prompt, []).append(place)
    pairs = []
    for index, places in sorted(by_prompt.items()):
        ranked = sorted(places, key=lambda place: labels[place])
        # Never a draw on both sides, however few there are.
        size = min(ends, len(ranked) // 2)
        worst = ranked[:size]
        for good in reversed(ranked[len(ranked) - size :]):
            bad = [place for place in rng.sample(worst, min(per, size)) if labels[good] - labels[place] >= gap]
            pairs += [Pair(len(prompts[index]), draws[good], draws[place]) for place in bad]
    rng.shuffle(pairs)
    return pairs
