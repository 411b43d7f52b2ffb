"""The calibration store: rewards of policy samples, kept in SQLite from one request to the next.

A row belongs to a prompt's tokens, a way of sampling, a policy and a reward, the last two as the settings describe
them. It is a cache: what it cannot read it does not have, and what it cannot write is only not kept. Processes may
share a file: each row is written in one transaction, which a kill leaves either whole or undone.
"""

import asyncio
import logging
import math
import sqlite3
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from decoders.core import Prompt, Sampling
from server.calibration.keys import model_identity, reward_identities, row_key
from server.settings import Settings, SettingsError

log = logging.getLogger("decant")
T = TypeVar("T")
WAIT = 10.0  # seconds that a writer waits for another
SCHEMA = """
CREATE TABLE IF NOT EXISTS rollouts (
    key BLOB PRIMARY KEY, rewards BLOB NOT NULL, count INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rollouts_by_use ON rollouts (used);
PRAGMA user_version = 1;
"""


class CalibrationStore:
    """`decoders.models.Calibration` in a file. All its work is done in one thread of its own."""

    def __init__(
        self, path: Path, policy: str, rewards: Mapping[str, str], rollouts: int = 100, max_entries: int = 100_000
    ) -> None:
        """`policy` and `rewards` say what these are: others of the same name have rows of their own.

        Raises `SettingsError`.
        """
        self.rollouts = rollouts
        self._policy = policy
        self._rewards = rewards
        self._max_entries = max_entries
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="calibration")
        try:
            self._database = self._thread.submit(_open, path).result()
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise SettingsError(f"calibration.store: cannot use {path}: {error}") from error

    async def stored(self, prompt: Prompt, sampling: Sampling, reward: str) -> Sequence[float | None]:
        key = row_key(prompt, sampling, self._policy, self._rewards.get(reward, reward))
        return await self._do(lambda: self._read(key), "read", default=())

    async def keep(self, prompt: Prompt, sampling: Sampling, reward: str, rewards: Sequence[float | None]) -> None:
        key = row_key(prompt, sampling, self._policy, self._rewards.get(reward, reward))
        await self._do(lambda: self._write(key, rewards), "written", default=None)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[], T], what: str, default: T) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            log.warning("the calibration store could not be %s: %s", what, error)
            return default

    def _read(self, key: bytes) -> Sequence[float | None]:
        row = self._row(key)
        if row is None:
            return ()
        with suppress(sqlite3.OperationalError):  # another process writes, for long: the row is read all the same
            self._database.execute("UPDATE rollouts SET used = ? WHERE key = ?", (time.time_ns(), key))
        rewards = _unpack(*row)
        if rewards is None:
            log.warning("the calibration store has a malformed row, whose rewards are drawn again")
            return ()
        return rewards

    def _write(self, key: bytes, rewards: Sequence[float | None]) -> None:
        """Put the rewards in the place of fewer, or of a malformed row, and let the least recently used go."""
        with self._database:  # one transaction
            self._database.execute("BEGIN IMMEDIATE")
            row = self._row(key)
            if len(rewards) > len((row and _unpack(*row)) or ()):
                self._database.execute(
                    "INSERT OR REPLACE INTO rollouts VALUES (?, ?, ?, ?)",
                    (key, _pack(rewards), len(rewards), time.time_ns()),
                )
            [count] = self._database.execute("SELECT count(*) FROM rollouts").fetchone()
            self._database.execute(
                "DELETE FROM rollouts WHERE key IN (SELECT key FROM rollouts ORDER BY used LIMIT ?)",
                (max(0, count - self._max_entries),),
            )

    def _row(self, key: bytes) -> tuple[bytes | None, object] | None:
        """The rewards, None where they are no bytes at all, and how many they should be; None where there is no row."""
        row: tuple[bytes | None, object] | None = self._database.execute(
            "SELECT CASE typeof(rewards) WHEN 'blob' THEN rewards END, count FROM rollouts WHERE key = ?", (key,)
        ).fetchone()
        return row


def _pack(rewards: Sequence[float | None]) -> bytes:
    return array("d", [math.inf if reward is None else reward for reward in rewards]).tobytes()


def _unpack(packed: bytes | None, count: object) -> list[float | None] | None:
    """What `_pack` was given; None where these are not its bytes."""
    if packed is None or len(packed) % 8 or len(packed) // 8 != count:
        return None
    values = array("d", packed)
    if any(math.isnan(value) or value == -math.inf for value in values):
        return None
    return [None if value == math.inf else value for value in values]


def open_store(settings: Settings) -> CalibrationStore | None:
    """Return the store that the settings name, or None if they name none. Raises `SettingsError`."""
    own = settings.calibration
    if own.store is None:
        return None
    policy, rewards = model_identity(settings.policy), reward_identities(settings)
    return CalibrationStore(own.store, policy, rewards, own.rollouts, own.max_entries)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last rows, and breaks none
    database.executescript(SCHEMA)
    return database
