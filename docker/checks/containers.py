"""Images without a Docker engine: buildah builds and runs them in chroots, on a Debian made by debootstrap."""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

SUITE = "bookworm"  # the Debian release of python:3.11-slim-bookworm, the base of the CPU image
PACKAGES = "python3,python3-dev,python3-venv,python3-pip,ca-certificates"
DEBIAN = "localhost/decant-check-base"
ROOT = Path(__file__).parents[2]
console = Console()

# Settings of pip that may name a file or a folder of this machine.
_PATHS = ("cert", "client_cert", "constraint", "find_links", "index_url", "extra_index_url")


class Storage:
    """Images and containers in one folder, and the buildah command that works on them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        place = ["--root", str(folder / "images"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
        self.command = ["buildah", *place]

    def __call__(self, *arguments: str) -> str:
        """Run buildah; return its standard output. SystemExit if it fails; its own message is on standard error."""
        done = subprocess.run([*self.command, *arguments], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"buildah {arguments[0]} failed with status {done.returncode}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Return whether the image exists."""
        found = subprocess.run([*self.command, "inspect", "--type", "image", image], capture_output=True, check=False)
        return found.returncode == 0

    def config(self, image: str) -> dict[str, Any]:
        """Return an image's configuration in Docker's format."""
        inspected: dict[str, Any] = json.loads(self("inspect", "--type", "image", image))
        config: dict[str, Any] = inspected["Docker"]
        return config

    def debian(self) -> None:
        """Make the image `DEBIAN`, with Python, unless it exists."""
        if self.has(DEBIAN):
            return
        console.print(f"[bold]{DEBIAN}[/]: Debian {SUITE} and its Python, by debootstrap")
        root, tar = self._folder / "debian", self._folder / "debian.tar"
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        # debootstrap may leave proc mounted below the folder: leave mounted file systems out of the image.
        subprocess.run(["tar", "-C", str(root), "--one-file-system", "-cf", str(tar), "."], check=True)
        subprocess.run(["umount", "--quiet", str(root / "proc"), str(root / "sys")], check=False)
        shutil.rmtree(root)
        container = self("from", "scratch")
        self("add", "--quiet", container, str(tar), "/")
        self("commit", "--quiet", "--rm", container, DEBIAN)
        tar.unlink()

    def build(self, dockerfile: str, image: str, base: str) -> None:
        """Build one of the project's Dockerfiles, with pip configured as it is on this machine.

        Args:
            dockerfile: its path from the repository's root.
            image: the name to build.
            base: the image that replaces the Dockerfile's own base.
        """
        console.print(f"[bold]{image}[/]: building {dockerfile} on {base}")
        with _pip_configuration() as (file, paths):
            volumes = [f"--volume={path}:{path}:ro" for path in paths]
            arguments = [f"--build-arg=BASE={base}", "--build-arg=PIP_EXTRA_INDEX_URL="]
            secret = f"--secret=id=pip.conf,src={file}"
            how = ["--isolation", "chroot", "--network", "host", "--format", "docker"]
            command = ["build", *how, *arguments, *volumes, secret, "-f", dockerfile, "-t", image, str(ROOT)]
            if subprocess.run([*self.command, *command], check=False).returncode != 0:  # prints its steps
                raise SystemExit(f"{dockerfile} does not build")


@contextmanager
def _pip_configuration() -> Iterator[tuple[Path, list[Path]]]:
    """Yield this machine's configuration of pip as one file, and the paths that it names."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    values: dict[str, str] = {}
    for line in listed.splitlines():  # the environment's lines come last and override the others
        key, _, value = line.partition("=")
        name = key.strip().rpartition(".")[2].replace("-", "_")
        values[name] = value.strip().strip("'\"").replace("\\n", " ")
    named = [word.removeprefix("file://") for key in _PATHS for word in values.get(key, "").split()]
    paths = sorted({_mounted(Path(word)) for word in named if word.startswith("/") and Path(word).exists()})
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("[global]\n" + "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in values.items()))
        file.flush()
        yield Path(file.name), paths


def _mounted(path: Path) -> Path:
    """Return the folder to mount for a path: a package index refers to files beside it, so its parent."""
    return path.parent if path.is_dir() and path.name == "simple" else path


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def metadata_only(report: Path, archive: Path, site: str) -> list[str]:
    """Write the metadata of packages, without their code, as a tar archive.

    Args:
        report: the report of `pip install --dry-run --report`.
        archive: the file to write.
        site: the folder of the packages inside the archive.

    Returns:
        The packages' names.
    """
    names = []
    with tarfile.open(archive, "w") as tar, tempfile.TemporaryDirectory() as folder:
        for entry in json.loads(report.read_text())["install"]:
            metadata = entry["metadata"]
            name, version = metadata["name"], metadata["version"]
            names.append(name)
            lines = [f"Metadata-Version: {metadata['metadata_version']}", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Dist: {requirement}" for requirement in metadata.get("requires_dist", ())]
            lines += [f"Provides-Extra: {extra}" for extra in metadata.get("provides_extra", ())]
            info = Path(folder, f"{name.replace('-', '_')}-{version}.dist-info")
            info.mkdir()
            (info / "METADATA").write_text("\n".join(lines) + "\n")
            (info / "INSTALLER").write_text("pip\n")
            (info / "RECORD").write_text("")
            tar.add(info, arcname=f"{site}/{info.name}")
    return names
