"""A server in a process of its own, watched from outside: how long it is silent, and how much memory it takes."""

import http.client
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.serving import JSON, PATIENCE

MEMORY = 4 * 2**30  # bytes of addresses, after which the server gets no more
MB = 10**6


@dataclass(frozen=True)
class Seen:
    """What was seen of one request: its answer, and what became of the server meanwhile."""

    status: int
    body: bytes
    silence: float
    """The longest time in seconds that the server worked while it did not answer /healthz. Time in which the machine
    did something else is left out, so that it is the same on a busy one."""
    memory: float
    """The most memory, in MB, above what the server had before."""
    seconds: float


class Probed:
    """A running server's address and process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._pid, self._port = process.pid, port

    def post(self, path: str, body: bytes, headers: Mapping[str, str] = JSON) -> Seen:
        """Send a body, and look at the server until it is answered."""
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # the peak begins anew
        before = self._peak()
        with self._watched() as silences:
            start = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE * 2)
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            answer = response.read()
            seconds = time.perf_counter() - start
            connection.close()
        return Seen(response.status, answer, max(silences), self._peak() - before, seconds)

    @contextmanager
    def _watched(self) -> Iterator[list[float]]:
        silences: list[float] = []
        left, asked = threading.Event(), threading.Event()

        def watch() -> None:
            while not left.is_set():
                start, busy = time.perf_counter(), self._busy()
                with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE * 2)) as connection:
                    connection.request("GET", "/healthz")
                    assert connection.getresponse().read()
                silences.append(min(time.perf_counter() - start, self._busy() - busy))
                asked.set()
                left.wait(0.002)

        watching = threading.Thread(target=watch)
        watching.start()
        asked.wait(PATIENCE)
        silences.clear()
        try:
            yield silences
        finally:
            asked.clear()
            asked.wait(PATIENCE * 2)
            left.set()
            watching.join()

    def _busy(self) -> float:
        """Return for how many seconds the server's threads have run, those that have ended left out."""
        spent = 0
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                spent += int((task / "schedstat").read_text().split()[0])
        return spent / 1e9

    def _peak(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / MB


@contextmanager
def probed(*options: str) -> Iterator[Probed]:
    """Run `decant serve --toy` on a free port of the loopback, with bounded memory."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    command = [sys.executable, "-m", "server.cli", "serve", "--toy", *options]
    env = {**os.environ, "DECANT_SERVER__PORT": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=bounded, env=env
    ) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "http://" in line)
            yield Probed(process, int(line.rsplit(":", 1)[1].split()[0].strip("/")))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
