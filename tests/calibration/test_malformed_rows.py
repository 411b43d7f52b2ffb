"""A row of the calibration store that is not as it was written: drawn again, and replaced."""

import asyncio
import logging
import math
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from decoders.core import Prompt, Sampling
from decoders.parts.rollouts import missing
from decoders.testing import WatchedPolicy
from server.calibration.filling import calibrate
from server.calibration.store import CalibrationStore
from server.loading import Loaded, toy
from server.settings.reading import read_settings
from tests.support.fakes import ActingReward
from tests.support.serving import Api, Json, ok, serving

COUNT, N = 5, 3  # rollouts, candidates
PROMPT = Prompt((1,), "good")
BEST: Json = {"strategy": "best_of_n", "n": N, "reward": "default", "calibrated": True, "return_candidates": True}
SCORED: Json = {"prompt": "good", "completions": ["good", "bad"], "reward": "default", "calibrated": True}


def doubles(*values: float) -> bytes:
    return array("d", values).tobytes()


MALFORMED: dict[str, tuple[str, object]] = {
    "NaN": ("rewards", doubles(*[math.nan] * COUNT)),
    "one NaN": ("rewards", doubles(1.0, math.nan, 0.0, 0.5, -1.0)),
    "minus infinity": ("rewards", doubles(1.0, -math.inf, 0.0, 0.5, -1.0)),
    "part of a number": ("rewards", doubles(1.0, 0.0, 0.5, -1.0, 2.0)[:-3]),
    "fewer than were kept": ("rewards", doubles(1.0, 0.0)),
    "more than were kept": ("rewards", doubles(*[1.0] * 99)),
    "nothing": ("rewards", b""),
    "text": ("rewards", "[1.0, 0.0, 0.5, -1.0, 2.0]"),
    "a number": ("rewards", 1.0),
    "a count of others": ("count", 1000),
    "no count": ("count", "many"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollouts.db"


@pytest.fixture
def loaded(path: Path) -> Iterator[Loaded]:
    loaded = toy(read_settings(policy={"model": "toy"}, calibration={"store": path, "rollouts": COUNT}))
    yield loaded
    asyncio.run(loaded.aclose())


@pytest.fixture
def api(loaded: Loaded) -> Iterator[Api]:
    with serving(loaded) as api:
        yield api


def spoil(path: Path, column: str, value: object) -> None:
    """Overwrite what is in a column of every row, as anybody with the file can."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute(f"UPDATE rollouts SET {column} = ?", (value,)).rowcount > 0


def kept(path: Path) -> list[tuple[list[float], int]]:
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT rewards, count FROM rollouts").fetchall()
    return [(list(array("d", rewards)), count) for rewards, count in rows]


def drawn(answer: Json) -> int:
    cost = answer["decoding"]["cost"]["candidates"]
    assert isinstance(cost, int)
    return cost


@pytest.mark.parametrize(("column", "value"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_row_is_drawn_again_once_and_replaced(
    api: Api, path: Path, column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = api.complete(seed=1, decoding=BEST)
    [(rewards, count)] = kept(path)
    assert (drawn(fresh), len(rewards), count) == (COUNT + N, COUNT, COUNT)
    spoil(path, column, value)
    with caplog.at_level(logging.WARNING, "decant"):
        mended = api.complete(seed=1, decoding=BEST)
    assert "malformed row" in caplog.text
    assert kept(path) == [(rewards, COUNT)], "the same seed draws the same"
    again = api.complete(seed=1, decoding={**BEST, "on_demand": False})
    assert (drawn(mended), drawn(again)) == (COUNT + N, N)
    assert fresh["decoding"]["candidates"] == mended["decoding"]["candidates"] == again["decoding"]["candidates"]


@pytest.mark.parametrize(("column", "value"), MALFORMED.values(), ids=MALFORMED)
def test_scoring_alone_mends_it_too(api: Api, path: Path, column: str, value: object) -> None:
    body = {**SCORED, "seed": 1, "max_tokens": 4}
    fresh = ok(api.post("rewards", body))
    spoil(path, column, value)
    mended, again = (ok(api.post("rewards", body)) for _ in range(2))
    assert fresh["data"] == mended["data"] == again["data"]
    assert fresh["cost"]["generated_tokens"] == mended["cost"]["generated_tokens"] > 0
    assert again["cost"]["generated_tokens"] == 0


@pytest.mark.parametrize(("column", "value"), MALFORMED.values(), ids=MALFORMED)
def test_places_are_held_for_it_and_decant_calibrate_draws_it(
    loaded: Loaded, path: Path, column: str, value: object
) -> None:
    policy = WatchedPolicy()
    models = replace(loaded.models, policy=policy)

    async def lacking() -> list[str]:
        return await missing(PROMPT, COUNT, models, ["default"], Sampling())

    async def fill() -> int:
        before = policy.tokens
        assert await calibrate(models, [(1, PROMPT, Sampling())], ["default"], COUNT, 1, lambda: None) == []
        return policy.tokens - before

    async def test() -> None:
        assert await fill() > 0
        assert await lacking() == []
        spoil(path, column, value)
        assert await lacking() == ["default"]
        assert await fill() > 0
        assert await lacking() == []
        assert await fill() == 0

    asyncio.run(test())


def test_a_text_that_is_not_utf8_is_no_reason_to_fail_for_ever(api: Api, path: Path) -> None:
    api.complete(decoding=BEST)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE rollouts SET rewards = CAST(X'ff00ff' AS TEXT)")
    assert [drawn(api.complete(decoding=BEST)) for _ in range(2)] == [COUNT + N, N]


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_samples_that_have_no_reward_are_kept_as_that_and_not_drawn_again(
    loaded: Loaded, path: Path, hole: float
) -> None:
    """Whatever stands for none, it is not what a spoilt row has."""
    values = iter([1.0, hole, 0.0, hole, 2.0])

    async def act(n: int) -> list[float]:
        return [next(values, 0.5) for _ in range(n)]

    loaded.models = replace(loaded.models, rewards={"default": ActingReward(act)})
    with serving(loaded) as api:
        body = {**SCORED, "max_tokens": 4}
        fresh, again = (ok(api.post("rewards", body)) for _ in range(2))
    assert again["cost"]["generated_tokens"] == 0
    assert [row["calibrated_rewards"] for row in fresh["data"]] == [{"default": 1 / 3}] * 2
    assert fresh["data"] == again["data"]
    store = loaded.models.calibration
    assert isinstance(store, CalibrationStore)
    assert kept(path) == [([1.0, math.inf, 0.0, math.inf, 2.0], COUNT)]
