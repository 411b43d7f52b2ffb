"""A calibration store as tests use it: opened, read, filled and closed without an event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from decoders.core import Prompt, Sampling
from server.calibration.store import CalibrationStore, open_store
from server.settings import Settings

PROMPT = Prompt((1, 2), "good bad")
SAMPLING = Sampling()
JUDGES = {"default": "one judge", "brevity": "another judge", "renamed": "one judge"}


@contextmanager
def opened(path: Path, policy: str = "policy", **more: Any) -> Iterator[CalibrationStore]:
    with using(CalibrationStore(path, policy, JUDGES, **more)) as store:
        yield store


@contextmanager
def using(store: CalibrationStore) -> Iterator[CalibrationStore]:
    try:
        yield store
    finally:
        asyncio.run(store.aclose())


def keep(
    store: CalibrationStore,
    rewards: Sequence[float | None],
    prompt: Prompt = PROMPT,
    sampling: Sampling = SAMPLING,
    reward: str = "default",
) -> None:
    asyncio.run(store.keep(prompt, sampling, reward, rewards))


def stored(
    store: CalibrationStore, prompt: Prompt = PROMPT, sampling: Sampling = SAMPLING, reward: str = "default"
) -> list[float | None]:
    return list(asyncio.run(store.stored(prompt, sampling, reward)))


def numbered(i: int) -> Prompt:
    return Prompt((i,), "")


@contextmanager
def store_of(settings: Settings) -> Iterator[CalibrationStore]:
    """The store that the settings name, closed at the end."""
    store = open_store(settings)
    assert store is not None
    with using(store):
        yield store
