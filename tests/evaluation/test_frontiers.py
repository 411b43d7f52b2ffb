"""Replayed pools: every completion is drawn once, and means over a pool are exact."""

import asyncio
import itertools
from pathlib import Path
from statistics import fmean

import pytest

from decoders import SpeculativeRejection
from decoders.core import Prompt, Sampling
from decoders.events import Done
from decoders.models import Models
from decoders.rng import SeededRng
from evaluation.frontiers.early_stopping import best_of, equal_n
from evaluation.frontiers.replay import Exhausted, Replay, RolloutPool, append_pool, load_pools


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_mean_of_best_of_n_is_exact_on_a_pool(n: int) -> None:
    scores = [0.3, -1.0, 2.0, 0.3, 5.0]
    want = fmean(max(own) for own in itertools.combinations(scores, n))
    assert best_of(scores, n) == pytest.approx(want)
    assert equal_n(scores, want, 5) == pytest.approx(n)


POOL = RolloutPool(
    Prompt((1,), "x"),
    [(i, j) for i in range(20) for j in range(20)],
    {(i,): float(i) for i in range(20)} | {(i, j): 20.0 * i + j for i in range(20) for j in range(20)},
)


def test_a_replay_gives_each_draw_once_and_continues_each_prefix_as_in_the_pool() -> None:
    async def test() -> None:
        replay = Replay(POOL)
        models = Models(replay, {"default": replay})
        seen: list[tuple[int, ...]] = []
        strategy = SpeculativeRejection(n=8, checkpoints=[1], keep=0.5)
        for run in range(50):
            async for event in strategy.decode(POOL.prompt, models, Sampling(max_tokens=2), SeededRng(run)):
                if isinstance(event, Done):
                    seen += [s.candidate.tokens for s in event.candidates if not s.aborted]
        assert len(seen) == len(set(seen)) == 200
        assert set(seen) <= set(POOL.draws)
        with pytest.raises(Exhausted):
            await anext(replay.sample(POOL.prompt, 1, Sampling(), SeededRng(0)))

    asyncio.run(test())


def test_pools_are_saved_whole(tmp_path: Path) -> None:
    file = tmp_path / "pools.jsonl"
    for _ in range(2):
        append_pool(POOL, file)
    assert load_pools(file) == [POOL, POOL]
