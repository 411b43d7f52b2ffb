"""Servers in processes of their own, each on a free port of this machine."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

START = 600.0  # seconds that a server may take to start
_ADDRESS = re.compile(r"at (http://\S+)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run `command` while the block runs, its standard error in the file `log`; then end it by SIGTERM.

    Args:
        command: the program and its arguments.
        log: a file, which is overwritten.
        environment: variables to set besides this process's own.
    """
    with log.open("w") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env={**os.environ, **environment},
        )
    with child:  # closes its pipes
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()


def serve_command(config: Path, module: str = "server.cli") -> list[str]:
    """Return the command of `decant serve` on a free port, with the settings file `config`."""
    return [sys.executable, "-m", module, "serve", "--config", str(config), "--port", "0"]


@contextmanager
def decant(settings: dict[str, Any], log: Path | None = None, module: str = "server.cli") -> Iterator[str]:
    """Run `decant serve` with `settings` while the block runs; yield its address.

    Args:
        settings: what its settings file holds.
        log: a file for its standard error; None keeps it only while the server runs.
        module: what runs as the command `decant`.
    """
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder, "decant.yaml"), log or Path(folder, "log")
        config.write_text(yaml.safe_dump(settings))
        with process(serve_command(config, module), log) as child:
            wait(child, log, lambda: bool(_ADDRESS.search(log.read_text())))
            found = _ADDRESS.search(log.read_text())
            assert found is not None
            yield found[1]


@contextmanager
def vllm(model: str, name: str, engine: dict[str, Any]) -> Iterator[str]:
    """Run `vllm serve` while the block runs; yield its address. It logs as little as Decant does.

    Args:
        model: a checkpoint's path.
        name: what requests call the model.
        engine: vLLM's engine arguments.
    """
    flags: list[str] = []
    for key, value in engine.items():
        flag = key.replace("_", "-")
        flags += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    with vllm_serve([model, "--served-model-name", name, *flags]) as url:
        yield url


def vllm_args(config: Path) -> list[str]:
    """Return what `decant vllm-args` prints for a settings file, as a shell would split it."""
    command = [sys.executable, "-m", "server.cli", "vllm-args", "--config", str(config)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


@contextmanager
def vllm_serve(words: list[str], log: Path | None = None, **environment: str) -> Iterator[str]:
    """Run `vllm serve` with these words behind it while the block runs; yield its address.

    Args:
        words: the model and flags.
        log: a file for its standard error; None keeps it only while the server runs.
        environment: variables to set besides this process's own.
    """
    with _vllm([sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"], words, log, environment) as url:
        yield url


@contextmanager
def vllm_by_shell(line: str, words: list[str], folder: Path, log: Path) -> Iterator[str]:
    """Run a shell's `line` that starts `vllm serve`, with `words` at its end, in `folder`; yield the address."""
    scripts = Path(sys.executable).parent  # where `vllm` and `decant` are
    shell = ["bash", "-euc", f'cd "$0"; {line.replace("vllm serve", "exec vllm serve")} "$@"', str(folder)]
    with _vllm(shell, words, log, {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}) as url:
        yield url


def name_distribution(folder: Path) -> None:
    """Write a stub into a folder of `PYTHONPATH`: vLLM's command asks for the distribution `vllm`."""
    stub = folder / "vllm-0.32.0+cpu.dist-info"
    stub.mkdir()
    (stub / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


@contextmanager
def _vllm(command: list[str], words: list[str], log: Path | None, environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder, "log")
        listen = ["--port", str(port), "--host", "127.0.0.1", "--uvicorn-log-level", "warning"]
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), folder)))
        name_distribution(Path(folder))
        variables = {"PYTHONPATH": path, "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_LOGGING_STREAM": "ext://sys.stderr"}
        variables |= environment
        with process([*command, *words, *listen], log, **variables) as child:
            url = f"http://127.0.0.1:{port}"
            wait(child, log, lambda: is_up(f"{url}/health"))
            yield url


def wait(child: subprocess.Popen[str], log: Path, ready: Callable[[], bool]) -> None:
    """Wait until `ready()` is true.

    Raises:
        SystemExit: the child ended first or took longer than `START`; the message has the end of its log.
    """
    deadline = time.monotonic() + START
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"a server did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.25)


def is_up(url: str) -> bool:
    """Return whether a GET of `url` is answered with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False
