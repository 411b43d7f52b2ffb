"""The calibration store's file: written by several processes, killed, broken, locked or something else."""

import logging
import multiprocessing
import sqlite3
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from decoders.core import Prompt
from server.calibration.store import CalibrationStore
from server.loading import toy
from server.settings import SettingsError
from server.settings.reading import read_settings
from tests.support.calibration_store import keep, numbered, opened, stored, using
from tests.support.serving import PATIENCE, serving, until

WRITERS, SHARE = 3, 25  # processes, and the prompts each has for itself
SPAWN = multiprocessing.get_context("spawn")


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
