"""Pairs of completions of one prompt, the better one first, from rollouts and their labels."""

import random
from dataclasses import dataclass

from training.guides.sampling import DrawnCompletion


@dataclass(frozen=True)
class DrawPair:
    """Two completions of one prompt; `start` is the prompt's length in tokens."""

    start: int
    chosen: DrawnCompletion
    rejected: DrawnCompletion


def pairs_of(
    prompts: list[list[int]],
    draws: list[DrawnCompletion],
    labels: list[float],
    *,
    ends: int,
    per: int,
    gap: float,
    seed: int,
) -> list[DrawPair]:
    """Pair each of a prompt's `ends` best completions with `per` of its `ends` worst; return all pairs, shuffled.

    Args:
        prompts: token ids.
        draws: completions of the prompts.
        labels: one for each completion; greater is better.
        ends: the number of best and of worst completions of each prompt.
        per: pairs of each best completion; the worst ones are chosen at random.
        gap: labels must differ by this much, since a smaller difference is mostly noise of the label.
        seed: of the choice and of the order.
    """
    rng = random.Random(seed)
    by_prompt: dict[int, list[int]] = {}
    for place, draw in enumerate(draws):
        by_prompt.setdefault(draw.prompt, []).append(place)
    pairs = []
    for index, places in sorted(by_prompt.items()):
        ranked = sorted(places, key=lambda place: labels[place])
        # No completion is among both the best and the worst, however few there are.
        size = min(ends, len(ranked) // 2)
        worst = ranked[:size]
        for good in reversed(ranked[len(ranked) - size :]):
            bad = [place for place in rng.sample(worst, min(per, size)) if labels[good] - labels[place] >= gap]
            pairs += [DrawPair(len(prompts[index]), draws[good], draws[place]) for place in bad]
    rng.shuffle(pairs)
    return pairs
