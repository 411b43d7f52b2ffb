"""Draws from the demo's policy on held-out prompts, scored by its reward, to replay strategies on.

python -m evaluation.pools FILE [--prompts 12] [--draws 600]
"""

import argparse
import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from decoders.core import Candidate, Prompt, Sampling
from decoders.rng import SeededRng
from evaluation.replay import Pool, save
from server.demo.defaults import settings
from server.engines import build
from server.settings import Settings
from training.sentiment.prompts import HELD_OUT_CHAT, HELD_OUT_RAW

TOKENS = 32
BEGINNINGS = (8, 16)  # lengths in tokens at which an unfinished answer is scored besides
BATCH = 100


async def pools(prompts: int, draws: int, console: Console) -> list[Pool]:
    """So many prompts, raw ones and messages in turn, with so many draws each."""
    own = {key: value for key, value in settings().items() if key not in ("guides", "calibration")}
    loaded = build.build(Settings.read(**own), lambda what: console.print(f"loading {what}"))
    try:
        await build.warm(loaded)
        texts = [
            *(await asyncio.gather(*(loaded.text.encode(text) for text in HELD_OUT_RAW))),
            *(await asyncio.gather(*(loaded.text.chat([{"role": "user", "content": t}]) for t in HELD_OUT_CHAT))),
        ]
        step = max(1, len(texts) // prompts)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("drawing and scoring", total=prompts * draws)
            return [
                await _pool(loaded, prompt, draws, seed, lambda n: bar.advance(task, n))
                for seed, prompt in enumerate(texts[::step][:prompts])
            ]
    finally:
        await loaded.aclose()


async def _pool(loaded: build.Loaded, prompt: Prompt, draws: int, seed: int, tick: Callable[[int], None]) -> Pool:
    models = loaded.models
    sampling, rng = Sampling(max_tokens=TOKENS), SeededRng(seed)
    drawn: list[Candidate] = []
    rewards: dict[tuple[int, ...], float] = {}
    while len(drawn) < draws:
        batch: list[Candidate] = []
        async for _, candidate in models.policy.sample(prompt, min(BATCH, draws - len(drawn)), sampling, rng):
            batch.append(candidate)
        parts = [c for whole in batch for c in (whole, *_beginnings(loaded, prompt, whole))]
        for part, reward in zip(parts, await models.rewards["default"].score(prompt, parts), strict=True):
            rewards[part.tokens] = reward
        drawn += batch
        tick(len(batch))
    return Pool(prompt, [c.tokens for c in drawn], rewards)


def _beginnings(loaded: build.Loaded, prompt: Prompt, whole: Candidate) -> list[Candidate]:
    """As `Policy.extend` would give them: unfinished."""
    cuts = [whole.tokens[:n] for n in BEGINNINGS if n < len(whole.tokens)]
    before = loaded.text.decode(prompt.tokens)
    return [Candidate(cut, loaded.text.decode(prompt.tokens + cut)[len(before) :]) for cut in cuts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--draws", type=int, default=600)
    asked = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    save(asyncio.run(pools(asked.prompts, asked.draws, Console())), asked.file)


if __name__ == "__main__":
    main()
