"""The calibration store: rewards of policy samples, kept in SQLite from one request to the next.

A row has the rewards of one prompt's samples, by one way of sampling, policy and reward: see `server.calibration.keys`.
The store is a cache: a row that cannot be read counts as missing, and one that cannot be written is not kept. Processes
may share a file: each row is written in one transaction, so a kill leaves the old row or the new one.
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
    """`decoders.models.Calibration` in an SQLite file, which one thread reads and writes."""

    def __init__(
        self, path: Path, policy: str, rewards: Mapping[str, str], rollouts: int = 100, max_entries: int = 100_000
    ) -> None:
        """Args:
            policy: What decides the policy's outputs, as `model_identity` returns it.
            rewards: The same of each reward, by name, as `reward_identities` returns it.
            rollouts: How many each prompt is to have.
            max_entries: The least recently used rows beyond this number are deleted.

        Raises `SettingsError` if the file cannot be used.
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
        with suppress(sqlite3.OperationalError):  # another process holds the lock: the mark is left out
            self._database.execute("UPDATE rollouts SET used = ? WHERE key = ?", (time.time_ns(), key))
        rewards = _unpack(*row)
        if rewards is None:
            log.warning("the calibration store has a malformed row; its rewards are drawn again")
            return ()
        return rewards

    def _write(self, key: bytes, rewards: Sequence[float | None]) -> None:
        """Store the rewards, unless the row has as many already, and delete the least recently used rows."""
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
        """Return the packed rewards (None if they are no bytes) and their number, or None if there is no row."""
        row: tuple[bytes | None, object] | None = self._database.execute(
            "SELECT CASE typeof(rewards) WHEN 'blob' THEN rewards END, count FROM rollouts WHERE key = ?", (key,)
        ).fetchone()
        return row


def _pack(rewards: Sequence[float | None]) -> bytes:
    return array("d", [math.inf if reward is None else reward for reward in rewards]).tobytes()


def _unpack(packed: bytes | None, count: object) -> list[float | None] | None:
    """Return the rewards that `_pack` packed, or None if these are not its bytes."""
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
    database.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last rows, and damages none
    database.executescript(SCHEMA)
    return database
