"""The GPU image, built on what the published vLLM says it needs. See `evaluation.deployment.image`.

The official image is not at hand everywhere, and its code runs on GPUs alone; but whether Decant can be installed
beside it is a matter of versions. So pip resolves the vLLM release that docker/Dockerfile names, every package of the
answer is put into a Debian as metadata without code, and buildah builds the Dockerfile on that: it fails where an
install would bring a second torch, and where versions conflict.

Not shown: the image's own Python (3.12), what it holds beyond vLLM's requirements, a server in it, anything on a GPU.
"""

import re
import subprocess
import sys
from pathlib import Path

from evaluation.deployment.containers import DEBIAN, ROOT, Storage, console, metadata_only

BASE, IMAGE = "localhost/decant-check-vllm", "localhost/decant:gpu"
SITE = "usr/local/lib/python3.11/dist-packages"


def check(folder: Path) -> None:
    """Resolve and build; SystemExit at the first thing that is not as it should be."""
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
    """The packages of a vLLM release, as pip chooses them, put into `archive`; how many there are."""
    console.print(f"[bold]vLLM {version}[/]: asking pip what it needs")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    done = subprocess.run([*command, "--report", str(report), f"vllm=={version}"], check=False)
    if done.returncode != 0:
        raise SystemExit(f"pip cannot resolve vllm=={version}")
    names = metadata_only(report, archive, SITE)
    if not {"vllm", "torch"} <= set(names):
        raise SystemExit(f"vllm=={version} without torch? pip chose {names}")
    return len(names)
