"""The check of the CPU image. See `docker.checks.image`.

buildah builds docker/Dockerfile.cpu on a Debian made by debootstrap, and runs the image's own command, as the image's
own user, in a chroot. The check shows that every step of the Dockerfile works; that the server starts on an empty
volume, answers requests and counts them on /metrics; that the health check passes; that the server writes only to its
volume and to /tmp, so that the root file system may be read-only; and that SIGTERM ends it. A chroot cannot show
limits, networks, capabilities, or that the file system is in fact read-only.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx

from docker.checks.containers import DEBIAN, Storage, console, size
from docker.checks.running import VOLUME, in_container, running

IMAGE = "localhost/decant:cpu"
DECODINGS: tuple[dict[str, Any], ...] = (
    {"strategy": "sample"},
    {"strategy": "best_of_n", "n": 4},
    {"strategy": "reward_guided", "guides": {"positive": 1.0}},
)
PROMPT = [{"role": "user", "content": "How was the film?"}]


def check(folder: Path) -> None:
    """Build the image in `folder`, run it and send requests; SystemExit at the first fault."""
    storage = Storage(folder)
    storage.debian()
    storage.build("docker/Dockerfile.cpu", IMAGE, DEBIAN)
    config = storage.config(IMAGE)["config"]
    _check_history(json.dumps(storage.config(IMAGE)))
    container = storage("from", IMAGE)
    try:
        root = Path(storage("mount", container))
        console.print(f"the image's files: {size(root) / 1e9:.2f} GB; user {config['User']}")
        before = _files(root)
        with running(storage, container, config, folder / "cpu-volume", config["Cmd"]) as url:
            _check_health(storage, container, config, url, ok=True)
            _check_answers(url)
        _check_health(storage, container, config, url, ok=False)
        changed = sorted(before ^ _files(root))
        if changed:
            raise SystemExit(f"the server wrote outside of its volume and /tmp: {changed[:10]}")
        console.print("[green]ok[/] nothing was written outside of the volume and /tmp")
    finally:
        storage("rm", container)


def _check_history(history: str) -> None:
    """Check that no layer of the image names pip's configuration, which may hold credentials."""
    found = re.findall(r"PIP_\w+=\S*|pip\.conf", history)
    if found:
        raise SystemExit(f"the image knows how pip was configured: {found}")
    console.print("[green]ok[/] no layer of the image knows how pip was configured")


def _files(root: Path) -> set[tuple[str, int, int]]:
    """Return the path, the size and the time of writing of each file of a container, mounts excepted."""
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


def _check_health(storage: Storage, container: str, config: dict[str, Any], url: str, *, ok: bool) -> None:
    """Run the image's own health check beside the server, as Docker does; it must pass exactly if `ok`."""
    kind, *command = config["Healthcheck"]["Test"]
    assert kind == "CMD", kind
    port = url.rpartition(":")[2]
    run = [*in_container(container, {"DECANT_SERVER__PORT": port}), *command]
    done = subprocess.run([*storage.command, *run], capture_output=True, text=True, check=False)
    if (done.returncode == 0) != ok:
        raise SystemExit(f"the health check ended with {done.returncode}: {done.stdout}{done.stderr}")
    console.print(f"[green]ok[/] the health check says {'ready' if ok else 'not ready, once the server is gone'}")


def _check_answers(url: str) -> None:
    """Request a plain sample, a search and a guided answer, and check that /metrics counts them."""
    with httpx.Client(base_url=url, timeout=300) as client:
        for decoding in DECODINGS:
            body = {"messages": PROMPT, "max_tokens": 16, "decoding": decoding}
            answer = client.post("/v1/chat/completions", json=body)
            if answer.status_code != 200:
                raise SystemExit(f"the server answered {body} with {answer.status_code}: {answer.text}")
            choice = answer.json()["choices"][0]["message"]["content"]
            console.print(f"[green]ok[/] {decoding['strategy']}: {choice.strip()!r}")
        page = client.get("/metrics").text
    for strategy in (decoding["strategy"] for decoding in DECODINGS):
        counted = f'decant_request_duration_seconds_count{{outcome="ok",strategy="{strategy}"}} 1.0'
        if counted not in page:
            raise SystemExit(f"/metrics lacks {counted}")
    if "vllm:prompt_tokens_total" not in page:
        raise SystemExit("/metrics lacks vLLM's own")
    console.print("[green]ok[/] /metrics counted them, vLLM's own beside them")
