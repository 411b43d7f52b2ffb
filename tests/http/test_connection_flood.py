"""Thousands of connections that send nothing whole, and a client beside them."""

import re
import resource
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from evaluation.support.servers import process, wait
from tests.support.serving import until

CROWD = 2000
HALF = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx-never: en"
ADDRESS = re.compile(r"at (http://\S+)")


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """Let this process open a file for each of the crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * CROWD) if hard > 0 else 3 * CROWD, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=["-Sn 1024", "-n 1024"], ids=["soft", "hard"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a server that may open a thousand files, a limit that it can or cannot raise."""
    log = tmp_path / "log"
    serve = f"ulimit {request.param} && exec {sys.executable} -m server.cli serve --toy --port 0"
    with process(["bash", "-c", serve], log) as child:
        wait(child, log, lambda: ADDRESS.search(log.read_text()) is not None)
        found = ADDRESS.search(log.read_text())
        assert found is not None
        yield found[1], psutil.Process(child.pid)


def test_a_client_beside_two_thousand_half_open_connections_is_answered(server: tuple[str, psutil.Process]) -> None:
    url, process = server
    files, memory = process.num_fds(), process.memory_info().rss
    port = int(url.rsplit(":", 1)[1])
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(CROWD)]
    for peer in crowd:
        try:
            peer.sendall(HALF)
        except OSError:  # another one has its place
            continue
    try:
        for path, body in (("/healthz", None), ("/v1/completions", {"prompt": "good", "max_tokens": 2})):
            started = time.monotonic()
            answer = httpx.request("GET" if body is None else "POST", url + path, json=body, timeout=30)
            assert answer.status_code == 200, answer.text
            assert time.monotonic() - started < 2
        assert process.memory_info().rss - memory < 100 * 2**20
    finally:
        for peer in crowd:
            peer.close()
    until(lambda: process.num_fds() <= files + 8)
