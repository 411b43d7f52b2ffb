"""Rollout pools to replay strategies on: completions of held-out prompts from the demo's policy, with its rewards.

python -m evaluation.frontiers.pools FILE [--prompts 8] [--draws 440]
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from decoders.core import Candidate, Prompt, Sampling, Tokens
from decoders.parts.concurrency import both
from decoders.rng import SeededRng
from evaluation.frontiers.replay import RolloutPool, append_pool
from server import loading
from server.demo.defaults import settings
from server.engines.text import Chat
from server.settings.reading import read_settings
from server.warmup import warm_up
from training.sentiment.prompts import HELD_OUT_CHAT, HELD_OUT_RAW

TOKENS = 32  # of each completion
PREFIX_TOKENS = (8, 16)  # lengths at which an unfinished completion is scored too
BATCH = 88  # completions drawn in one call


async def draw_pools(prompts: int, draws: int, file: Path, console: Console) -> None:
    """Write a pool for each prompt to `file`, as soon as it is complete.

    Args:
        prompts: how many held-out prompts, both texts to continue and chat messages.
        draws: completions of each prompt.
        file: the file that lines are appended to.
        console: where progress is shown.
    """

    def chat(text: str) -> Chat:
        return Chat(({"role": "user", "content": text},))

    own = {key: value for key, value in settings().items() if key not in ("guides", "calibration")}
    loaded = loading.build(read_settings(**own), lambda what: console.print(f"loading {what}"))
    try:
        await warm_up(loaded)
        texts = [
            *(await asyncio.gather(*(loaded.text.encode(text) for text in HELD_OUT_RAW))),
            *(await asyncio.gather(*(loaded.text.chat(chat(text)) for text in HELD_OUT_CHAT))),
        ]
        step = max(1, len(texts) // prompts)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("drawing and scoring", total=prompts * draws)
            for seed, prompt in enumerate(texts[::step][:prompts]):
                append_pool(await _pool(loaded, prompt, draws, seed, lambda n: bar.advance(task, n)), file)
    finally:
        await loaded.aclose()


async def _pool(
    loaded: loading.Loaded, prompt: Prompt, draws: int, seed: int, advance: Callable[[int], None]
) -> RolloutPool:
    """Draw and score in batches, each batch scored while the next is drawn; `advance` takes completions scored."""
    rng = SeededRng(seed)
    drawn: list[Candidate] = []
    rewards: dict[Tokens, float] = {}
    unscored: list[Candidate] = []
    while unscored or len(drawn) < draws:
        batch, scores = await both(
            _draw(loaded, prompt, min(BATCH, draws - len(drawn)), rng), _score(loaded, prompt, unscored)
        )
        rewards |= scores
        advance(len(unscored))
        drawn, unscored = drawn + batch, batch
    return RolloutPool(prompt, [c.tokens for c in drawn], rewards)


async def _draw(loaded: loading.Loaded, prompt: Prompt, n: int, rng: SeededRng) -> list[Candidate]:
    if n == 0:
        return []
    samples = loaded.models.policy.sample(prompt, n, Sampling(max_tokens=TOKENS), rng)
    return [candidate async for _, candidate in samples]


async def _score(loaded: loading.Loaded, prompt: Prompt, batch: Sequence[Candidate]) -> dict[Tokens, float]:
    """Return the rewards of whole completions and of their prefixes, by token ids."""
    parts = [c for whole in batch for c in (whole, *_prefixes(loaded, prompt, whole))]
    scores = await loaded.models.rewards["default"].score(prompt, parts) if parts else []
    return {part.tokens: reward for part, reward in zip(parts, scores, strict=True) if reward is not None}


def _prefixes(loaded: loading.Loaded, prompt: Prompt, whole: Candidate) -> list[Candidate]:
    """Return the prefixes of `whole` as `Policy.extend` would give them: unfinished."""
    cuts = [whole.tokens[:n] for n in PREFIX_TOKENS if n < len(whole.tokens)]
    before = loaded.text.decode(prompt.tokens)
    return [Candidate(cut, loaded.text.decode(prompt.tokens + cut)[len(before) :]) for cut in cuts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--draws", type=int, default=440)
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # exit in the ordinary way, so that the engines end too
    arguments.file.unlink(missing_ok=True)
    asyncio.run(draw_pools(arguments.prompts, arguments.draws, arguments.file, Console()))


if __name__ == "__main__":
    main()
