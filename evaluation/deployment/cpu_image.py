"""The CPU image, built and asked. See `evaluation.deployment.image`.

buildah builds docker/Dockerfile.cpu on a Debian made by debootstrap, and runs what the image says it runs, as the user
that it says, in a chroot. What is shown: every step of the file works; the server starts from nothing, answers, and is
measured; its health check passes; it writes nowhere but in its volume and /tmp, so that the root file system may be
read-only; it ends by SIGTERM. What a chroot cannot show, Docker has to: limits, networks, capabilities, and that the
file system is in fact read-only.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx

from evaluation.deployment.containers import DEBIAN, Storage, console, size
from evaluation.deployment.running import VOLUME, in_container, running

IMAGE = "localhost/decant:cpu"
WAYS: tuple[dict[str, Any], ...] = (
    {"strategy": "sample"},
    {"strategy": "best_of_n", "n": 4},
    {"strategy": "reward_guided", "guides": {"positive": 1.0}},
)
PROMPT = [{"role": "user", "content": "How was the film?"}]


def check(folder: Path) -> None:
    """Build, run, ask; SystemExit at the first thing that is not as it should be."""
    storage = Storage(folder)
    storage.debian()
    storage.build("docker/Dockerfile.cpu", IMAGE, DEBIAN)
    config = storage.config(IMAGE)["config"]
    _clean(json.dumps(storage.config(IMAGE)))
    container = storage("from", IMAGE)
    try:
        root = Path(storage("mount", container))
        console.print(f"the image's files: {size(root) / 1e9:.2f} GB; user {config['User']}")
        before = _files(root)
        with running(storage, container, config, folder / "cpu-volume", config["Cmd"]) as url:
            _healthy(storage, container, config, url, ok=True)
            _answers(url)
        _healthy(storage, container, config, url, ok=False)
        changed = sorted(before ^ _files(root))
        if changed:
            raise SystemExit(f"the server wrote outside of its volume and /tmp: {changed[:10]}")
        console.print("[green]ok[/] nothing was written outside of the volume and /tmp")
    finally:
        storage("rm", container)


def _clean(history: str) -> None:
    found = re.findall(r"PIP_\w+=\S*|pip\.conf", history)
    if found:
        raise SystemExit(f"the image knows how pip was configured: {found}")
    console.print("[green]ok[/] no layer of the image knows how pip was configured")


def _files(root: Path) -> set[tuple[str, int, int]]:
    """Every file of a container: where, how large, written when. Without what a run mounts there."""
    mounted = {root / name for name in ("tmp", "proc", "sys", "dev", "run", VOLUME.lstrip("/"))}
    mounted |= {root / "etc" / name for name in ("hosts", "hostname", "resolv.conf")}
    found = set()
    for here, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(here, name) not in mounted]
        for name in files:
            path = Path(here, name)
            if path not in mounted:
                status = path.lstat()
                found.add((str(path.relative_to(root)), status.st_size, status.st_mtime_ns))
    return found


def _healthy(storage: Storage, container: str, config: dict[str, Any], url: str, *, ok: bool) -> None:
    """The image's own health check, beside the server as Docker runs it, says what it should."""
    kind, *command = config["Healthcheck"]["Test"]
    assert kind == "CMD", kind
    port = url.rpartition(":")[2]
    run = [*in_container(container, {"DECANT_SERVER__PORT": port}), *command]
    done = subprocess.run([*storage.command, *run], capture_output=True, text=True, check=False)
    if (done.returncode == 0) != ok:
        raise SystemExit(f"the health check ended with {done.returncode}: {done.stdout}{done.stderr}")
    console.print(f"[green]ok[/] the health check says {'ready' if ok else 'not ready, once the server is gone'}")


def _answers(url: str) -> None:
    """A plain sample, a search and a guided answer, and what Prometheus would be told of them."""
    with httpx.Client(base_url=url, timeout=300) as client:
        for decoding in WAYS:
            body = {"messages": PROMPT, "max_tokens": 16, "decoding": decoding}
            answer = client.post("/v1/chat/completions", json=body)
            if answer.status_code != 200:
                raise SystemExit(f"asked {body}, the server answered {answer.status_code}: {answer.text}")
            choice = answer.json()["choices"][0]["message"]["content"]
            console.print(f"[green]ok[/] {decoding['strategy']}: {choice.strip()!r}")
        page = client.get("/metrics").text
    for strategy in (decoding["strategy"] for decoding in WAYS):
        counted = f'decant_request_duration_seconds_count{{outcome="ok",strategy="{strategy}"}} 1.0'
        if counted not in page:
            raise SystemExit(f"/metrics lacks {counted}")
    if "vllm:prompt_tokens_total" not in page:
        raise SystemExit("/metrics lacks vLLM's own")
    console.print("[green]ok[/] /metrics counted them, vLLM's own beside them")
