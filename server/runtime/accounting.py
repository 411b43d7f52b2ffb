"""The accounting log: a line of JSON for each request that ended, with what it used and whose key it was."""

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from server.runtime.usage import Usage
from server.settings import SettingsError

log = logging.getLogger("decant")
MAX_WAITING = 10_000  # lines, a few megabytes: more are lost while the disk does not take them
LAST_WORDS = 5.0  # seconds for the lines that wait when the server stops

Line = Mapping[str, str | int | float | None]


class AccountingLog:
    """Appends lines to a file, in a thread of its own.

    The file is opened for each batch of lines, so that one that is moved away is made again, as logrotate expects.

    Args:
        lost: Called with a number of lines that could not be written, from any thread.

    Raises `SettingsError` for a file that cannot be opened.
    """

    def __init__(self, path: Path, lost: Callable[[int], None]) -> None:
        self._path = path
        self._lost = lost
        self._lines: queue.Queue[Line | None] = queue.Queue(MAX_WAITING)
        self._failing = False
        self._torn = b""  # what ends a line that was written in part
        try:
            self._append(b"")
        except OSError as error:
            raise SettingsError(f"server.accounting_log: {error}") from error
        self._thread = threading.Thread(target=self._work, name="accounting", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Have a line written; never wait for it."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost(1)

    def close(self) -> None:
        """Write the lines that wait, for `LAST_WORDS` seconds at most, and end the thread."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=LAST_WORDS)
        self._thread.join(LAST_WORDS)

    def _work(self) -> None:
        line = self._lines.get()
        while line is not None:
            batch = [line]
            while not self._lines.empty() and (line := self._lines.get()) is not None:
                batch.append(line)
            self._write(batch)
            line = self._lines.get() if line is not None else None

    def _write(self, batch: list[Line]) -> None:
        try:
            self._append("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in batch).encode())
        except OSError as error:
            self._lost(len(batch))
            if not self._failing:
                log.error("the accounting log cannot be written, and lines are lost: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _append(self, text: bytes) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            left = memoryview(self._torn + text)
            while left:
                left = left[os.write(handle, left) :]
                self._torn = b"\n" if left else b""
        finally:
            os.close(handle)


def accounting_line(
    request: str, key: str, model: str, strategy: str, outcome: str, usage: Usage, seconds: float
) -> Line:
    """Return the line of a request that ended after `seconds`."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": request,
        "key": key or None,
        "model": model,
        "strategy": strategy,
        "outcome": outcome,
        "prompt_tokens": usage.read_tokens,
        "generated_tokens": usage.generated_tokens,
        "sequences": usage.sequences,
        "reward_calls": usage.reward_calls if usage.admitted else 0,
        "seconds": round(seconds, 6),
    }
