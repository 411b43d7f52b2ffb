"""The locked sets of packages: inside the ranges of pyproject.toml, each with its hashes, and of no host's own."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"cpu": ("cpu", "demo", "training", "dev"), "gpu": ("gpu",)}
ENTRY = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)


def text(lock: str) -> str:
    return (ROOT / "docker" / "locks" / f"{lock}.txt").read_text()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_has_a_version_and_hashes(lock: str) -> None:
    rest = ENTRY.sub("", text(lock))
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []
    assert not re.search(r"https?:|file:|--index-url|--find-links", text(lock)), "a lock names no host"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_inside_the_ranges_of_the_project(lock: str) -> None:
    locked = {canonicalize_name(name): version for name, version, _ in ENTRY.findall(text(lock))}
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(one) for one in (*PROJECT["dependencies"], *(r for e in LOCKS[lock] for r in extras[e]))]
    wrong = [str(r) for r in wanted if locked.get(canonicalize_name(r.name), "none") not in r.specifier]
    assert wrong == [], "run `make locks`"
