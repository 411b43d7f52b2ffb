"""The calibration store: whoever asks for the same gets what was kept, whatever becomes of the file."""

import asyncio
import logging
import math
import multiprocessing
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from decoders.core import Prompt, Sampling
from server.calibration.store import CalibrationStore, open_store
from server.loading import toy
from server.settings import Settings, SettingsError
from server.settings.reading import read_settings
from tests.support.sampling import OTHER_VALUES
from tests.support.serving import PATIENCE, Json, serving, until

PROMPT = Prompt((1, 2), "good bad")
SAMPLING = Sampling()
JUDGES = {"default": "one judge", "brevity": "another judge", "renamed": "one judge"}
WRITERS, SHARE = 3, 25  # processes, and the prompts each has for itself
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "if need be" / "rollouts.db"


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


def test_what_is_kept_is_read_back_to_the_last_bit_also_by_the_next_process(path: Path) -> None:
    rewards = [0.1, -0.0, 1 / 3, math.pi * 1e300, 5e-324, None, -1.0, None]
    with opened(path) as store:
        assert stored(store) == []
        keep(store, rewards)
        assert repr(stored(store)) == repr(rewards)
    with opened(path) as store:
        assert repr(stored(store)) == repr(rewards)


def test_more_rewards_replace_fewer_and_no_others_do(path: Path) -> None:
    with opened(path) as store:
        for rewards, left in (
            ([1.0, 2.0], [1.0, 2.0]),
            ([3.0], [1.0, 2.0]),
            ([3.0, 4.0], [1.0, 2.0]),
            ([5.0, 6.0, 7.0], [5.0, 6.0, 7.0]),
            ([], [5.0, 6.0, 7.0]),
        ):
            keep(store, rewards)
            assert stored(store) == left


def test_another_value_of_any_sampling_parameter_is_another_row(path: Path) -> None:
    with opened(path) as store:
        keep(store, [1.0])
        for name, value in OTHER_VALUES.items():
            other = replace(SAMPLING, **{name: value})
            assert stored(store, sampling=other) == [], name
            keep(store, [2.0], sampling=other)
            assert stored(store, sampling=other) == [2.0], name
        assert stored(store) == [1.0]


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((1,), "good bad"),
        Prompt((2, 1), "good bad"),
        Prompt((1, 2), "good bad", ()),
        Prompt((1, 2), "good bad", ({"role": "user", "content": "good bad"},)),
        Prompt((1, 2), "good bad", continues=True),
    ],
)
def test_other_tokens_or_messages_are_another_row(path: Path, prompt: Prompt) -> None:
    with opened(path) as store:
        keep(store, [1.0])
        assert stored(store, prompt) == []
        keep(store, [2.0], prompt)
        assert (stored(store), stored(store, prompt)) == ([1.0], [2.0])


def test_the_same_tokens_are_the_same_row_however_they_are_written(path: Path) -> None:
    with opened(path) as store:
        keep(store, [1.0])
        assert stored(store, Prompt((1, 2), " good bad")) == [1.0]


def test_another_policy_or_judge_is_another_row_and_another_name_is_not(path: Path) -> None:
    with opened(path) as store, opened(path, "another policy") as other:
        keep(store, [1.0])
        assert stored(other) == []
        assert stored(store, reward="brevity") == []
        assert stored(store, reward="renamed") == [1.0]


@pytest.mark.parametrize("use", ["read", "more kept"])
def test_the_least_recently_used_rows_leave(path: Path, use: str) -> None:
    with opened(path, max_entries=3) as store:
        for i in (1, 2, 3):
            keep(store, [float(i)], numbered(i))
        if use == "read":
            stored(store, numbered(1))
        else:
            keep(store, [1.0, 1.0], numbered(1))
        keep(store, [4.0], numbered(4))
        assert [i for i in (1, 2, 3, 4) if stored(store, numbered(i))] == [1, 3, 4]
    with opened(path, max_entries=1) as store:
        keep(store, [5.0], numbered(5))
        assert [i for i in range(6) if stored(store, numbered(i))] == [5], "a lower bound is kept to at once"


def test_two_stores_of_one_file_see_each_others_rows(path: Path) -> None:
    with opened(path) as one, opened(path) as other:
        keep(one, [1.0])
        assert stored(other) == [1.0]
        keep(other, [2.0, 2.0])
        keep(one, [3.0])
        assert stored(one) == [2.0, 2.0]


def own(writer: int, i: int) -> Prompt:
    return Prompt((0, writer, i), "")


def write(path: Path, writer: int, together: Barrier) -> None:
    """What one of several processes does: rows of its own, and a row of all that grows."""
    with opened(path) as store:
        together.wait()
        for i in range(SHARE):
            keep(store, [float(writer)] * (i + 1), own(writer, i))
            keep(store, [float(writer)] * (1 + i * WRITERS + writer))


def test_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    together = SPAWN.Barrier(WRITERS, timeout=PATIENCE)
    writers = [SPAWN.Process(target=write, args=(path, i, together), daemon=True) for i in range(WRITERS)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * WRITERS
    with opened(path) as store:
        for writer in range(WRITERS):
            for i in range(SHARE):
                assert stored(store, own(writer, i)) == [float(writer)] * (i + 1)
        assert stored(store) == [WRITERS - 1.0] * (SHARE * WRITERS)


def write_on(path: Path) -> None:
    """Rows of a few pages, each of one number over and over, until it is killed."""
    with opened(path) as store:
        for i in range(1_000_000):
            keep(store, [float(i)] * (1000 + i), numbered(i % 20))


@pytest.mark.parametrize("after", [0.0, 0.05])
def test_a_kill_while_it_writes_leaves_every_row_whole(path: Path, after: float) -> None:
    process = SPAWN.Process(target=write_on, args=(path,), daemon=True)
    process.start()
    until(lambda: path.exists() and len(rows(path)) == 20)
    time.sleep(after)
    process.kill()
    process.join()
    with opened(path) as store:
        for i in range(20):
            row = stored(store, numbered(i))
            assert set(row) == {float(len(row) - 1000)}
        keep(store, [0.0] * 1000, numbered(-1))
        assert len(stored(store, numbered(-1))) == 1000
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def rows(path: Path) -> list[bytes]:
    """The keys that are there; none while the file is being made."""
    with closing(sqlite3.connect(path)) as database:
        try:
            return [key for (key,) in database.execute("SELECT key FROM rollouts")]
        except sqlite3.OperationalError:
            return []


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database. " * 100)
    for wrong in (file, tmp_path, file / "rollouts.db"):
        with pytest.raises(SettingsError, match=r"calibration\.store: cannot use") as caught:
            CalibrationStore(wrong, "policy", {})
        assert str(wrong) in str(caught.value)
    assert file.read_text() == "not a database. " * 100


def test_a_file_that_breaks_costs_a_warning_and_no_request(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = read_settings(policy={"model": "toy"}, calibration={"store": path, "rollouts": 5})
    loaded = toy(settings)
    store = loaded.models.calibration
    assert isinstance(store, CalibrationStore)
    decoding = {"strategy": "best_of_n", "n": 2, "calibrated": True}
    with using(store), serving(loaded) as api, caplog.at_level(logging.WARNING, "decant"):
        assert api.complete(decoding=decoding)["decoding"]["cost"]["candidates"] == 7
        assert api.complete(decoding=decoding)["decoding"]["cost"]["candidates"] == 2
        with closing(sqlite3.connect(path)) as database:
            database.execute("DROP TABLE rollouts")
        assert caplog.text == ""
        assert api.complete(decoding=decoding)["decoding"]["cost"]["candidates"] == 7
    assert "the calibration store could not be read: no such table: rollouts" in caplog.text
    assert "the calibration store could not be written: no such table: rollouts" in caplog.text


def test_while_another_writes_for_long_rows_are_read_and_none_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.calibration.store.WAIT", 0.05)
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        keep(store, [1.0])
        other.execute("BEGIN EXCLUSIVE")
        assert stored(store) == [1.0]
        assert caplog.text == ""
        keep(store, [2.0, 2.0])
        assert "could not be written: database is locked" in caplog.text
        other.execute("COMMIT")
        assert stored(store) == [1.0]
        keep(store, [2.0, 2.0])
        assert stored(store) == [2.0, 2.0]


SETTINGS: Json = {
    "policy": {"model": "models/policy", "engine": {"dtype": "float32"}},
    "guides": {"weak": {"kind": "arm", "model": "models/weak"}},
    "rewards": {
        "model": {"kind": "classifier", "model": "models/judge", "label": 1},
        "steps": {"kind": "process", "model": "models/steps"},
        "function": {"kind": "function", "function": "math:sqrt"},
        "remote": {"kind": "http", "url": "http://judge:8000/classify"},
        "guide": {"kind": "guide", "guide": "weak"},
    },
}
ALL = set(SETTINGS["rewards"])


def changed(where: str, value: object, path: Path) -> Settings:
    """The settings above, with another value at a dotted place."""

    def put(section: Json, keys: list[str]) -> Json:
        key, *rest = keys
        return {**section, key: put(section.get(key, {}), rest) if rest else value}

    return read_settings(**put({**SETTINGS, "calibration": {"store": path}}, where.split(".")))


def store_of(settings: Settings) -> CalibrationStore:
    store = open_store(settings)
    assert store is not None
    return store


def test_without_a_path_there_is_no_store() -> None:
    assert open_store(read_settings(policy={"model": "toy"})) is None


def test_a_store_is_as_the_settings_have_it(path: Path) -> None:
    with using(store_of(changed("calibration", {"store": path, "rollouts": 7, "max_entries": 1}, path))) as store:
        assert store.rollouts == 7
        keep(store, [1.0], numbered(1))
        keep(store, [2.0], numbered(2))
        assert [stored(store, numbered(i)) for i in (1, 2)] == [[], [2.0]]


@pytest.mark.parametrize(
    ("where", "value", "others"),
    [
        ("policy.model", "models/another", ALL),
        ("policy.engine.dtype", "bfloat16", ALL),
        ("policy.engine.quantization", "fp8", ALL),
        ("policy.engine.kv_cache_dtype", "fp8", ALL),
        ("policy.engine.tokenizer_revision", "main", ALL),
        ("policy.engine.max_num_seqs", 8, set()),
        ("policy.engine.gpu_memory_utilization", 0.5, set()),
        ("policy.name", "frozen", set()),
        ("rewards.model.model", "models/another", {"model"}),
        ("rewards.model.label", 0, {"model"}),
        ("rewards.model.activation", True, {"model"}),
        ("rewards.model.template", "policy", {"model"}),
        ("rewards.model.template", "none", {"model"}),
        ("rewards.steps.template", "own", {"steps"}),
        ("rewards.remote.template", "policy", {"remote"}),
        ("rewards.model.engine.dtype", "bfloat16", {"model"}),
        ("rewards.model.engine.max_num_seqs", 8, set()),
        ("rewards.model.timeout_s", 5, set()),
        ("rewards.model", {"kind": "process", "model": "models/judge", "label": 1}, {"model"}),
        ("rewards.steps.reduce", "min", {"steps"}),
        ("rewards.steps.step_tag", "<extra_0>", {"steps"}),
        ("rewards.function.function", "math:exp", {"function"}),
        ("rewards.function.max_batch", 8, set()),
        ("rewards.remote.url", "http://judge:8001/classify", {"remote"}),
        ("rewards.remote.retries", 3, set()),
        ("rewards.remote.api_key_env", "KEY", set()),
        ("guides.weak.model", "models/another", {"guide"}),
        ("guides.weak.base", "models/base", {"guide"}),
        ("guides.strong", {"kind": "arm", "model": "models/strong"}, set()),
        ("guided_engine", {"dtype": "bfloat16"}, set()),
        ("server.port", 9000, set()),
    ],
)
def test_what_changes_outputs_has_rows_of_its_own_and_nothing_else_has(
    path: Path, where: str, value: object, others: set[str]
) -> None:
    with using(store_of(changed("server", {}, path))) as one, using(store_of(changed(where, value, path))) as other:
        for name in ALL:
            keep(one, [1.0], reward=name)
        assert {name for name in ALL if not stored(other, reward=name)} == others
