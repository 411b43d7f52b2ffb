"""Inference-aware decoding on the demo's models: win rates after best-of-N, by what the policy is tilted towards.

    python -m evaluation.pools pools.jsonl
    python -m evaluation.infalign pools.jsonl [--n 4] [--nats 1] [--passes 20]

Each row is `best_of_n` over `rejection` on a calibrated, transformed reward, the strategies as they are served, run on
replayed draws; beta is such that the tilt is so many nats from the policy. An answer's chance to beat the best (or to
outlast the worst) of N plain draws is counted on draws of their own; the interval is over prompts. Beside it is what
the theory says of a reward without ties whose quantiles are known.
"""

import argparse
import asyncio
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import t as student

from decoders import BestOfN
from decoders.core import Sampling
from decoders.events import Done
from decoders.maths.transforms import Exponential, Identity, Transform, expected_draws
from decoders.models import Models
from decoders.rng import SeededRng
from evaluation.replay import Exhausted, Kept, Pool, Replay, load
from evaluation.winrates import best_of_n_win_rate, beta_at, worst_of_n_win_rate

ROLLOUTS, RIVALS = 80, 80  # draws of a pool behind the quantiles, and to win against; the rest are candidates
ROWS: list[tuple[str, Transform]] = [
    ("argmax", Identity()),
    ("argmax", Exponential(t=10.0)),
    ("argmin", Identity()),
    ("argmin", Exponential(t=-10.0)),
]


def over(select: str, phi: Transform, beta: float, n: int) -> BestOfN:
    proposal = {
        "strategy": "rejection", "calibrated": True, "transform": phi.model_dump(), "beta": beta, "batch": 4,
        "max_draws": 4096,
    }  # fmt: skip
    return BestOfN.model_validate({"n": n, "select": {"by": select}, "proposal": proposal})


def win(reward: float, rivals: Sequence[float], n: int, select: str) -> float:
    """P(a reward beats the best, or the worst, of n of the rivals, drawn without replacement); ties count half."""

    def below_all(count: float) -> float:
        """P(all n are among so many)."""
        return math.prod(max(0.0, count - i) / (len(rivals) - i) for i in range(n))

    less, level = sum(r < reward for r in rivals), sum(r == reward for r in rivals)
    if select == "argmax":
        return (below_all(less) + below_all(less + level)) / 2
    return 1 - (below_all(len(rivals) - less) + below_all(len(rivals) - less - level)) / 2


async def answers(strategy: BestOfN, pool: Pool, rollouts: Sequence[float], seed: int) -> list[float]:
    """Rewards of one answer after the other, until the pool has no draws left."""
    order = random.Random(seed)
    draws = order.sample(pool.draws, len(pool.draws))
    replay = Replay(Pool(pool.prompt, draws, pool.rewards))
    models = Models(replay, {"default": replay}, Kept(rollouts))
    found: list[float] = []
    for run in range(len(draws)):
        try:
            async for event in strategy.decode(pool.prompt, models, Sampling(), SeededRng(seed * 100_000 + run)):
                if isinstance(event, Done):
                    [result] = event.results
                    assert result.accepted
                    reward = result.rewards["default"]
                    assert reward is not None
                    found.append(reward)
        except Exhausted:
            break
    return found


def interval(values: Sequence[float]) -> float:
    """Half the width of a 95% interval of the mean."""
    return float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def measure(pools: Sequence[Pool], n: int, nats: float, passes: int, console: Console) -> list[tuple[Any, ...]]:
    """Rows: rule, transform, theory, win rate by prompt, draws per answer in theory."""
    rows = []
    for select, phi in ROWS:
        beta = beta_at(phi, nats)
        strategy = over(select, phi, beta, n)
        by_prompt = []
        for pool in track(pools, f"{select} over {phi.kind}", console=console, transient=True):
            known, rivals, candidates = pool.split(ROLLOUTS, RIVALS)
            runs = [asyncio.run(answers(strategy, candidates, known.scores(), seed)) for seed in range(passes)]
            wins = [win(reward, rivals.scores(), n, select) for run in runs for reward in run]
            by_prompt.append(fmean(wins))
        theory = (best_of_n_win_rate if select == "argmax" else worst_of_n_win_rate)(phi, beta, n)
        rows.append((select, phi, theory, by_prompt, n * expected_draws(phi, beta)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--nats", type=float, default=1.0)
    parser.add_argument("--passes", type=int, default=20)
    asked = parser.parse_args()
    console = Console(width=110)
    rows = measure(load(asked.file), asked.n, asked.nats, asked.passes, console)
    table = Table(title=f"Win rate against {asked.n} plain draws, tilted by {asked.nats:g} nats", box=None)
    for column in ("after", "tilted towards", "win rate", "95%", "theory", "draws an answer"):
        table.add_column(column, justify="left" if column in ("after", "tilted towards") else "right")
    names = {"argmax": f"best of {asked.n}", "argmin": f"worst of {asked.n}"}
    for select, phi, theory, wins, draws in rows:
        what = phi.kind if isinstance(phi, Identity) else f"{phi.kind}, t = {phi.t:g}"
        table.add_row(
            names[select], what, f"{fmean(wins):.3f}", f"± {interval(wins):.3f}", f"{theory:.3f}", f"{draws:.0f}"
        )
    console.print(table)
    for first, second in ((rows[0], rows[1]), (rows[2], rows[3])):
        gains = [b - a for a, b in zip(first[3], second[3], strict=True)]
        console.print(f"{names[first[0]]}: the second over the first {fmean(gains):+.3f} ± {interval(gains):.3f}")


if __name__ == "__main__":
    main()
