"""A server in a container that buildah runs: started as its image says, stopped by SIGTERM."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from evaluation.deployment.containers import Storage, console
from evaluation.servers import answers, free_port, wait

VOLUME = "/var/cache/decant"


@contextmanager
def running(
    storage: Storage, container: str, config: dict[str, Any], volume: Path, command: list[str]
) -> Iterator[str]:
    """The image's entry point with `command`, as the image's own user, with its volume; the address once it is ready.

    SystemExit if it does not become ready, or does not end with status 0 when it is told to stop.
    """
    volume.mkdir(exist_ok=True)
    user, group = (int(part) for part in config["User"].split(":"))
    os.chown(volume, user, group)
    port = free_port()
    variables = {
        "DECANT_SERVER__PORT": str(port),
        "DECANT_SERVER__HOST": "127.0.0.1",  # a chroot has this machine's network
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # and its cores, few for several engines
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
                wait(server, log, lambda: answers(f"{url}/readyz"))
            yield url
        finally:
            if server.poll() is None:
                _stop(server.pid, port)
            status = server.wait(120)
        if status != 0:
            raise SystemExit(f"told to stop, the server ended with {status}:\n{log.read_text()[-3000:]}")
    console.print("[green]ok[/] told to stop, the server ended with status 0")


def in_container(container: str, variables: dict[str, str], *options: str) -> list[str]:
    """buildah's arguments to run something, which is to follow."""
    named = [f"--env={name}={value}" for name, value in variables.items()]
    return ["run", "--isolation", "chroot", *options, *named, container, "--"]


def _stop(pid: int, port: int) -> None:
    """SIGTERM to the server itself, among the processes below buildah's; to all of them where it is not up yet."""
    below = psutil.Process(pid).children(recursive=True)
    listening = [
        process
        for process in below
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections())
    ]
    for process in listening or below:
        process.terminate()
