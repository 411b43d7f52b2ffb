"""The real command `decant serve --toy` in a process of its own, with what it wrote to stderr."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.serving import PATIENCE

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"http://[\d.]+:\d+")


class Command:
    """A running server; `stderr` has all its lines once it has ended."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.url = ""
        self.stderr = ""
        self._child = child
        self._found = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._found.wait(PATIENCE), "it does not start"
        assert self.url, self.stderr

    def stop(self) -> None:
        """End it as a supervisor does, and wait until all it wrote is read."""
        self._child.send_signal(signal.SIGTERM)
        assert self._child.wait(PATIENCE) == 0, self.stderr
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self.stderr += line
            if not self.url and (match := ADDRESS.search(line)):
                self.url = match[0]
                self._found.set()
        self._found.set()


@contextmanager
def serve_toy(environment: Mapping[str, str], prelude: str = "") -> Iterator[Command]:
    """Run `decant serve --toy` while the block runs.

    Args:
        environment: Variables beside this process's own.
        prelude: Python that runs before the command.
    """
    code = f"{prelude}\nfrom server.cli import app\napp(['serve', '--toy', '--port', '0'])"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DECANT_", "OTEL_"))}
    variables = {**own, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield Command(child)
        finally:
            child.kill()
