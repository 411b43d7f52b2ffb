"""A server in a container that buildah runs: started by the image's entry point, stopped by SIGTERM."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from docker.checks.containers import Storage, console
from evaluation.support.servers import free_port, is_up, wait

VOLUME = "/var/cache/decant"


@contextmanager
def running(
    storage: Storage, container: str, config: dict[str, Any], volume: Path, command: list[str]
) -> Iterator[str]:
    """Run a server while the block runs; yield its address once it is ready.

    Args:
        storage: where the container is.
        container: its name.
        config: the image's configuration, which names the entry point and the user.
        volume: a folder of this machine, mounted as the image's volume; the log is written beside it.
        command: arguments of the entry point.

    Raises:
        SystemExit: the server did not become ready, or did not end with status 0 after SIGTERM.
    """
    volume.mkdir(exist_ok=True)
    user, group = (int(part) for part in config["User"].split(":"))
    os.chown(volume, user, group)
    port = free_port()
    variables = {
        "DECANT_SERVER__PORT": str(port),
        "DECANT_SERVER__HOST": "127.0.0.1",  # a chroot shares this machine's network
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # and its cores, which several engines share
        "OMP_NUM_THREADS": "1",
    }
    run = [*in_container(container, variables, f"--volume={volume}:{VOLUME}"), *config["Entrypoint"], *command]
    console.print(f"running {' '.join([*config['Entrypoint'], *command])}")
    log = volume.with_name(f"{volume.name}.log")
    with log.open("w") as out:
        url = f"http://127.0.0.1:{port}"
        server = subprocess.Popen([*storage.command, *run], stdout=out, stderr=out, text=True)
        try:
            with console.status("waiting for the server"):
                wait(server, log, lambda: is_up(f"{url}/readyz"))
            yield url
        finally:
            if server.poll() is None:
                _stop(server.pid, port)
            status = server.wait(120)
        if status != 0:
            raise SystemExit(f"the server ended with status {status} after SIGTERM:\n{log.read_text()[-3000:]}")
    console.print("[green]ok[/] the server ended with status 0 after SIGTERM")


def in_container(container: str, variables: dict[str, str], *options: str) -> list[str]:
    """Return buildah's arguments that run, in `container`, a command that is appended to them."""
    named = [f"--env={name}={value}" for name, value in variables.items()]
    return ["run", "--isolation", "chroot", *options, *named, container, "--"]


def _stop(pid: int, port: int) -> None:
    """Send SIGTERM to the process below buildah's that listens on `port`; to all of them if none listens yet."""
    below = psutil.Process(pid).children(recursive=True)
    listening = [
        process
        for process in below
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections())
    ]
    for process in listening or below:
        process.terminate()
