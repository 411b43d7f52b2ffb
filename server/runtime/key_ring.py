"""The keys that a server knows, read again when their file changes."""

import asyncio
import hmac
import logging
import os
import time
from pathlib import Path

from server.runtime import key_file
from server.runtime.key_file import Key
from server.runtime.metrics import Metrics

log = logging.getLogger("decant")
INTERVAL = 1.0  # seconds between looks at the file
SETTLED = 2.0  # seconds after a change in which another one might leave the file's times as they are

Stamp = tuple[int, int, int, int] | None


class KeyRing:
    """The keys of a file, looked at again at most once in `INTERVAL` seconds, when a request comes.

    A file that cannot be read, or has a mistake, leaves the keys as they are, and so does one without a byte, which is
    how an editor leaves it for a moment. In a file of comments alone every key is revoked.

    Args:
        metrics: Show the names of the keys, and count the attempts to read the file again.

    Raises `SettingsError` for a file that cannot be used at the start.
    """

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics
        self._stamp = _stamp(path)
        self._keys = key_file.read(path)
        self._show()
        self._next = time.monotonic() + INTERVAL
        self._problem = ""

    def find(self, digest: str) -> Key | None:
        """Return the key with this hash, also if it has expired."""
        # All digests are compared, so that the time taken does not show which one matched.
        found = [key for key in self._keys if hmac.compare_digest(digest, key.digest)]
        return found[0] if found else None

    async def refresh(self) -> None:
        """Read the file again if it has changed, off the event loop."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            keys = await asyncio.to_thread(_read, self._path)
        except (OSError, ValueError) as error:
            self._failed(str(error))
        else:
            self._keys = keys
            self._problem = ""
            self._metrics.keys_reloaded("ok")
            self._show()
            log.info("%s was read again: %d keys", self._path, len(keys))
        if stamp is None or time.time() - stamp[0] / 1e9 > SETTLED:
            self._stamp = stamp

    def _show(self) -> None:
        self._metrics.keys_known({key.client.name for key in self._keys})

    def _failed(self, problem: str) -> None:
        self._metrics.keys_reloaded("failed")
        if problem != self._problem:
            self._problem = problem
            log.error("%s has changed and cannot be used, so the keys stay as they were: %s", self._path, problem)


def _read(path: Path) -> list[Key]:
    """Return the keys of a file. Raises `OSError` or `ValueError`."""
    text = path.read_text()
    if not text.strip():
        raise ValueError("it is empty")
    return key_file.parse(text)


def _stamp(path: Path) -> Stamp:
    """Return what changes when the file does, the later of its times first; None without a file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return max(found.st_mtime_ns, found.st_ctime_ns), found.st_size, found.st_ino, found.st_dev
