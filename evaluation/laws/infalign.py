"""Inference-aware decoding on the demo's models: win rates after best-of-N, by the tilt of the policy.

    python -m evaluation.frontiers.pools pools.jsonl
    python -m evaluation.laws.infalign pools.jsonl [--n 4] [--nats 1] [--passes 20]

Each row is `best_of_n` over `rejection` on a calibrated and transformed reward. The strategies run as they are served,
on replayed completions; beta is such that the tilted policy is `--nats` nats from the policy. The chance of an answer
to beat the best (or the worst) of N plain samples is computed on completions that serve nothing else. Intervals are
95%, over prompts. The column `theory` is the formula's, for a reward without ties and with known quantiles.
"""

import argparse
import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import track
from rich.table import Table

from decoders import BestOfN
from decoders.core import Sampling
from decoders.events import Done
from decoders.maths.transforms import Exponential, Identity, Transform, expected_draws
from decoders.models import Models
from decoders.rejection import RejectionInfo
from decoders.rng import SeededRng
from evaluation.frontiers.replay import Exhausted, FixedCalibration, Replay, RolloutPool, load_pools
from evaluation.laws.win_rates import best_of_n_win_rate, beta_at, worst_of_n_win_rate
from evaluation.support.confidence import half_interval

ROLLOUTS, RIVALS = 80, 80  # completions of a pool for the quantiles, and to win against; the rest are candidates
TILTS: list[tuple[str, Transform]] = [
    ("argmax", Identity()),
    ("argmax", Exponential(t=10.0)),
    ("argmin", Identity()),
    ("argmin", Exponential(t=-10.0)),
]
"""The selection rule of best-of-N, and the transform of the calibrated reward that the policy is tilted by."""


@dataclass(frozen=True)
class TiltMeasurement:
    """One tilt's win rate in theory and measured, and the draws that an answer takes in theory."""

    select: str
    phi: Transform
    theory: float
    by_prompt: list[float]
    draws: float


def over(select: str, phi: Transform, beta: float, n: int) -> BestOfN:
    """Return best-of-`n` over answers of rejection sampling from the policy tilted by exp(phi(C) / beta)."""
    proposal = {
        "strategy": "rejection", "calibrated": True, "transform": phi.model_dump(), "beta": beta, "batch": 4,
        "max_draws": 4096,
    }  # fmt: skip
    return BestOfN.model_validate({"n": n, "select": {"by": select}, "proposal": proposal})


def win(reward: float, rivals: Sequence[float], n: int, select: str) -> float:
    """Return P(`reward` beats the best, or the worst, of `n` rivals drawn without replacement); a tie counts half.

    Args:
        reward: an answer's reward.
        rivals: rewards of plain samples.
        n: how many rivals are drawn.
        select: `argmax` to beat the best, `argmin` to beat the worst.
    """

    def all_among(count: float) -> float:
        """Return P(all n are among `count` given rivals)."""
        return math.prod(max(0.0, count - i) / (len(rivals) - i) for i in range(n))

    less, level = sum(r < reward for r in rivals), sum(r == reward for r in rivals)
    if select == "argmax":
        return (all_among(less) + all_among(less + level)) / 2
    return 1 - (all_among(len(rivals) - less) + all_among(len(rivals) - less - level)) / 2


async def answer_rewards(strategy: BestOfN, pool: RolloutPool, rollouts: Sequence[float], seed: int) -> list[float]:
    """Run the strategy until the pool is exhausted; return the rewards of its answers.

    Args:
        strategy: best-of-N over a calibrated proposal.
        pool: what the policy draws.
        rollouts: rewards that calibrate.
        seed: of the pool's order and of the strategy's choices.
    """
    order = random.Random(seed)
    draws = order.sample(pool.draws, len(pool.draws))
    replay = Replay(RolloutPool(pool.prompt, draws, pool.rewards))
    models = Models(replay, {"default": replay}, FixedCalibration(rollouts))
    found: list[float] = []
    for run in range(len(draws)):
        try:
            async for event in strategy.decode(pool.prompt, models, Sampling(), SeededRng(seed * 100_000 + run)):
                if isinstance(event, Done):
                    [result] = event.results
                    proposal = result.scored.proposal
                    assert proposal is not None
                    assert proposal.diagnostics(RejectionInfo).accepted
                    reward = result.rewards["default"]
                    assert reward is not None
                    found.append(reward)
        except Exhausted:
            break
    return found


def measure_tilts(
    pools: Sequence[RolloutPool], n: int, nats: float, passes: int, console: Console
) -> list[TiltMeasurement]:
    """Measure each of `TILTS`.

    Args:
        pools: one for each prompt.
        n: of best-of-N and of the plain samples to win against.
        nats: the KL of the tilted policy.
        passes: how often each pool is replayed, in another order each time.
        console: where progress is shown.
    """
    measured = []
    for select, phi in TILTS:
        beta = beta_at(phi, nats)
        strategy = over(select, phi, beta, n)
        by_prompt = []
        for pool in track(pools, f"{select} over {phi.kind}", console=console, transient=True):
            known, rivals, candidates = pool.split(ROLLOUTS, RIVALS)
            runs = [asyncio.run(answer_rewards(strategy, candidates, known.scores(), seed)) for seed in range(passes)]
            by_prompt.append(fmean(win(reward, rivals.scores(), n, select) for run in runs for reward in run))
        theory = (best_of_n_win_rate if select == "argmax" else worst_of_n_win_rate)(phi, beta, n)
        measured.append(TiltMeasurement(select, phi, theory, by_prompt, n * expected_draws(phi, beta)))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--nats", type=float, default=1.0)
    parser.add_argument("--passes", type=int, default=20)
    arguments = parser.parse_args()
    console = Console(width=110)
    measured = measure_tilts(load_pools(arguments.file), arguments.n, arguments.nats, arguments.passes, console)
    title = f"Win rate against {arguments.n} plain samples, tilted by {arguments.nats:g} nats"
    table = Table(title=title, box=None)
    for column in ("after", "tilted towards", "win rate", "95%", "theory", "draws an answer"):
        table.add_column(column, justify="left" if column in ("after", "tilted towards") else "right")
    names = {"argmax": f"best of {arguments.n}", "argmin": f"worst of {arguments.n}"}
    for tilt in measured:
        phi = tilt.phi
        towards = f"{phi.kind}, t = {phi.t:g}" if isinstance(phi, Exponential) else phi.kind
        table.add_row(
            names[tilt.select], towards, f"{fmean(tilt.by_prompt):.3f}", f"± {half_interval(tilt.by_prompt):.3f}",
            f"{tilt.theory:.3f}", f"{tilt.draws:.0f}",
        )  # fmt: skip
    console.print(table)
    for first, second in ((measured[0], measured[1]), (measured[2], measured[3])):
        gains = [b - a for a, b in zip(first.by_prompt, second.by_prompt, strict=True)]
        gain = f"{fmean(gains):+.3f} ± {half_interval(gains):.3f}"
        console.print(f"{names[first.select]}: the second over the first {gain}")


if __name__ == "__main__":
    main()
