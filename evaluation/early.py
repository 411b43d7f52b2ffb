"""What speculative rejection saves on the demo's models: its tokens against full best-of-N's at the same mean reward.

    python -m evaluation.pools pools.jsonl
    python -m evaluation.early pools.jsonl [--n 32] [--passes 40]

The strategy runs as it is served, on replayed draws with the rewards of their beginnings. Best-of-N's mean reward is
exact on the pool for every N, and the N that has the same one, between two whole ones, says how many tokens it takes.
The interval is over prompts.
"""

import argparse
import asyncio
import math
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import track
from rich.table import Table

from decoders import SpeculativeRejection
from decoders.core import Sampling
from decoders.events import Done
from decoders.models import Models
from decoders.rng import SeededRng
from evaluation.infalign import interval
from evaluation.pools import BEGINNINGS, TOKENS
from evaluation.replay import Exhausted, Pool, Replay, load

SCHEDULES: list[tuple[list[int], float]] = [
    ([BEGINNINGS[0]], 0.5),
    ([BEGINNINGS[1]], 0.5),
    ([BEGINNINGS[1]], 0.25),
    (list(BEGINNINGS), 0.5),
    (list(BEGINNINGS), 0.25),
]


async def runs(strategy: SpeculativeRejection, pool: Pool, seed: int) -> list[tuple[float, int]]:
    """Reward and tokens of one answer after the other, until the pool has no draws left."""
    draws = random.Random(seed).sample(pool.draws, len(pool.draws))
    replay = Replay(Pool(pool.prompt, draws, pool.rewards))
    models = Models(replay, {"default": replay})
    found: list[tuple[float, int]] = []
    for run in range(len(draws)):
        try:
            events = strategy.decode(pool.prompt, models, Sampling(max_tokens=TOKENS), SeededRng(seed * 1000 + run))
            dones = [event async for event in events if isinstance(event, Done)]
            for done in dones:
                reward = done.results[0].rewards["default"]
                assert reward is not None
                found.append((reward, done.cost.generated_tokens))
        except Exhausted:
            break
    return found


def best_of(scores: Sequence[float], n: int) -> float:
    """The mean of the best of n draws without replacement, exactly."""
    ranked, size = sorted(scores), len(scores)
    # The i-th of them is the best with probability C(i, n-1) / C(size, n).
    return math.fsum(r * math.comb(i, n - 1) / math.comb(size, n) for i, r in enumerate(ranked) if i >= n - 1)


def equal_n(scores: Sequence[float], reward: float, most: int) -> float:
    """The number of candidates, between whole ones, at which best-of-N has this mean reward."""
    means = [best_of(scores, n) for n in range(1, most + 1)]
    if reward <= means[0]:
        return 1.0
    for n, (low, high) in enumerate(pairwise(means), 1):
        if reward <= high:
            return n + (reward - low) / (high - low)
    return float(most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--passes", type=int, default=40)
    asked = parser.parse_args()
    console = Console(width=110)
    pools = load(asked.file)
    table = Table(title=f"Speculative rejection from {asked.n} candidates of {TOKENS} tokens", box=None)
    for column in ("checkpoints", "keep", "reward", "tokens", "same reward at N", "tokens / best-of-N's", "95%"):
        table.add_column(column, justify="right")
    full = fmean(best_of(pool.scores(), asked.n) for pool in pools)
    plain = fmean(fmean(pool.scores()) for pool in pools)
    for checkpoints, keep in SCHEDULES:
        strategy = SpeculativeRejection(n=asked.n, checkpoints=checkpoints, keep=keep)
        rewards, spent, matches, ratios = [], [], [], []
        for pool in track(pools, f"{checkpoints}, keep {keep}", console=console, transient=True):
            found = [one for seed in range(asked.passes) for one in asyncio.run(runs(strategy, pool, seed))]
            reward, tokens = fmean(r for r, _ in found), fmean(t for _, t in found)
            length = fmean(len(draw) for draw in pool.draws)
            n = equal_n(pool.scores(), reward, asked.n)
            rewards.append(reward)
            spent.append(tokens)
            matches.append(n)
            ratios.append(tokens / (n * length))
        table.add_row(
            ", ".join(map(str, checkpoints)), f"{keep:g}", f"{fmean(rewards):+.2f}", f"{fmean(spent):.0f}",
            f"{fmean(matches):.1f}", f"{fmean(ratios):.2f}", f"± {interval(ratios):.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"plain sample {plain:+.2f}, best of {asked.n} {full:+.2f}")


if __name__ == "__main__":
    main()
