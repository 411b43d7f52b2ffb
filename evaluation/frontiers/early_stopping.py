"""What speculative rejection saves on the demo's models: its tokens over full best-of-N's at the same mean reward.

    python -m evaluation.frontiers.pools pools.jsonl
    python -m evaluation.frontiers.early_stopping pools.jsonl [--n 32] [--passes 40]

The strategy runs as it is served, on replayed completions and their prefixes' rewards. Best-of-N's mean reward is exact
on a pool for every N. The N at which it equals the strategy's, interpolated between integers, says how many tokens
best-of-N would take. Intervals are 95%, over prompts.
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
from evaluation.frontiers.pools import PREFIX_TOKENS, TOKENS
from evaluation.frontiers.replay import Exhausted, Replay, RolloutPool, load_pools
from evaluation.support.confidence import half_interval

SCHEDULES: list[tuple[list[int], float]] = [
    ([PREFIX_TOKENS[0]], 0.5),
    ([PREFIX_TOKENS[1]], 0.5),
    ([PREFIX_TOKENS[1]], 0.25),
    (list(PREFIX_TOKENS), 0.5),
    (list(PREFIX_TOKENS), 0.25),
]
"""Checkpoints in tokens, and the share kept at each."""


async def runs(strategy: SpeculativeRejection, pool: RolloutPool, seed: int) -> list[tuple[float, int]]:
    """Run the strategy until the pool is exhausted; return the reward and the generated tokens of each run."""
    draws = random.Random(seed).sample(pool.draws, len(pool.draws))
    replay = Replay(RolloutPool(pool.prompt, draws, pool.rewards))
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
    """Return the mean of the best of `n` scores drawn without replacement, exactly."""
    ranked, size = sorted(scores), len(scores)
    # The i-th smallest is the best of n with probability C(i, n-1) / C(size, n), counting from 0.
    return math.fsum(r * math.comb(i, n - 1) / math.comb(size, n) for i, r in enumerate(ranked) if i >= n - 1)


def equal_n(scores: Sequence[float], reward: float, max_n: int) -> float:
    """Return the N in [1, max_n], interpolated between integers, at which best-of-N's mean reward is `reward`."""
    means = [best_of(scores, n) for n in range(1, max_n + 1)]
    if reward <= means[0]:
        return 1.0
    for n, (low, high) in enumerate(pairwise(means), 1):
        if reward <= high:
            return n + (reward - low) / (high - low)
    return float(max_n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--passes", type=int, default=40)
    arguments = parser.parse_args()
    console = Console(width=110)
    pools = load_pools(arguments.file)
    table = Table(title=f"Speculative rejection from {arguments.n} candidates of {TOKENS} tokens", box=None)
    for column in ("checkpoints", "keep", "reward", "tokens", "same reward at N", "tokens / best-of-N's", "95%"):
        table.add_column(column, justify="right")
    full = fmean(best_of(pool.scores(), arguments.n) for pool in pools)
    plain = fmean(fmean(pool.scores()) for pool in pools)
    for checkpoints, keep in SCHEDULES:
        strategy = SpeculativeRejection(n=arguments.n, checkpoints=checkpoints, keep=keep)
        rewards, spent, matches, ratios = [], [], [], []
        for pool in track(pools, f"{checkpoints}, keep {keep}", console=console, transient=True):
            found = [run for seed in range(arguments.passes) for run in asyncio.run(runs(strategy, pool, seed))]
            reward, tokens = fmean(r for r, _ in found), fmean(t for _, t in found)
            length = fmean(len(draw) for draw in pool.draws)
            n = equal_n(pool.scores(), reward, arguments.n)
            rewards.append(reward)
            spent.append(tokens)
            matches.append(n)
            ratios.append(tokens / (n * length))
        table.add_row(
            ", ".join(map(str, checkpoints)), f"{keep:g}", f"{fmean(rewards):+.2f}", f"{fmean(spent):.0f}",
            f"{fmean(matches):.1f}", f"{fmean(ratios):.2f}", f"± {half_interval(ratios):.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"plain sample {plain:+.2f}, best of {arguments.n} {full:+.2f}")


if __name__ == "__main__":
    main()
