"""Filling the calibration store ahead of the requests that will need it: the work of `decant calibrate`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from decoders.core import Prompt, Sampling
from decoders.errors import DecantError
from decoders.models import Models
from decoders.parts.rollouts import rollouts
from decoders.rng import SeededRng


@dataclass(frozen=True, slots=True)
class Failure:
    """A prompt that has no rollouts because an error came; `line` is its line in the file."""

    line: int
    why: str


async def calibrate(
    models: Models,
    work: Sequence[tuple[int, Prompt, Sampling]],
    rewards: Sequence[str],
    count: int,
    width: int,
    tick: Callable[[], None],
) -> list[Failure]:
    """Fill the store up to `count` rollouts of each prompt for each of `rewards`.

    Rollouts that are stored already are not drawn again. A prompt that fails does not stop the others.

    Args:
        work: prompts, each with its line in the file and how the policy is sampled.
        width: how many prompts are worked on at the same time.
        tick: called after each prompt, also after one that failed.

    Returns:
        The prompts that failed, by line.
    """
    assert models.calibration is not None
    places = asyncio.Semaphore(width)
    failures: list[Failure] = []

    async def one(line: int, prompt: Prompt, sampling: Sampling) -> None:
        async with places:
            try:
                await rollouts(prompt, count, models, rewards, sampling, SeededRng(), on_demand=True)
            except DecantError as error:
                failures.append(Failure(line, str(error)))
            tick()

    await asyncio.gather(*(one(*item) for item in work))
    return sorted(failures, key=lambda failure: failure.line)
