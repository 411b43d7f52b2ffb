"""The check of the GPU image, on the packages that vLLM's release requires. See `docker.checks.image`.

The official image is not available everywhere, and its code runs only on GPUs. Whether Decant can be installed beside
it is a question of versions, which metadata answer. So pip resolves the vLLM release that docker/Dockerfile names, each
resolved package is put into a Debian as metadata without code, and buildah builds the Dockerfile on that. The build
fails if an install would bring a second torch, or if versions conflict.

Not shown: the image's own Python (3.12), packages beyond vLLM's requirements, a server in the image, anything on a GPU.
"""

import re
import subprocess
import sys
from pathlib import Path

from docker.checks.containers import DEBIAN, ROOT, Storage, console, metadata_only

BASE, IMAGE = "localhost/decant-check-vllm", "localhost/decant:gpu"
SITE = "usr/local/lib/python3.11/dist-packages"


def check(folder: Path) -> None:
    """Resolve vLLM's packages and build the image in `folder`; SystemExit at the first fault."""
    found = re.search(r"^ARG BASE=vllm/vllm-openai:v(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.M)
    assert found is not None
    packages = _resolve(found[1], folder / "report.json", folder / "packages.tar")
    storage = Storage(folder)
    storage.debian()
    container = storage("from", DEBIAN)
    storage("add", "--quiet", container, str(folder / "packages.tar"), "/")
    storage("commit", "--quiet", "--rm", container, BASE)
    storage.build("docker/Dockerfile", IMAGE, BASE)
    console.print(f"[green]ok[/] beside vLLM {found[1]} and the {packages - 1} packages that it needs: no second torch")


def _resolve(version: str, report: Path, archive: Path) -> int:
    """Resolve vLLM's release `version` with pip; write `report` and `archive`; return the number of packages."""
    console.print(f"[bold]vLLM {version}[/]: resolving its requirements")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    done = subprocess.run([*command, "--report", str(report), f"vllm=={version}"], check=False)
    if done.returncode != 0:
        raise SystemExit(f"pip cannot resolve vllm=={version}")
    names = metadata_only(report, archive, SITE)
    if not {"vllm", "torch"} <= set(names):
        raise SystemExit(f"vllm=={version} without torch? pip chose {names}")
    return len(names)
