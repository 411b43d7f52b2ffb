"""The pages for authors, as a reader would follow them: their files are written, and what they show is run."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from decoders.models import Models, Reward
from decoders.testing import CONTRACT, ToyPolicy
from server.engines.rewards.build import build_reward
from server.engines.rewards.function_reward import import_beside
from server.engines.toy_text import ToyText
from server.loading import Loaded
from server.settings.reading import read
from tests.docs.asking import curl, shape
from tests.docs.blocks import PAGES_FOR_AUTHORS, ROOT, Block, of, values
from tests.support.serving import serving, until

STRATEGY, REWARD = PAGES_FOR_AUTHORS


def shown(page: str, language: str) -> list[Block]:
    return [block for block in of("page") if block.file == page and block.language == language]


def write_files(page: str, folder: Path, port: int = 0) -> None:
    """Write each Python block into the file that its first line names; `port` takes the place of 8001."""
    for block in shown(page, "python"):
        named = re.match(r"# (\w+\.py)\n", block.text)
        assert named is not None, f"{block.name} does not begin with the name of its file"
        (folder / named[1]).write_text(block.text.replace("8001", str(port)))


def test_all_blocks_of_these_pages_are_known() -> None:
    assert {page: [block.language for block in of("page") if block.file == page] for page in PAGES_FOR_AUTHORS} == {
        STRATEGY: ["python", "python"],
        REWARD: ["python", "python", "yaml", "sh", "json"],
    }


def test_the_strategy_keeps_its_law_and_the_contract(tmp_path: Path) -> None:
    write_files(STRATEGY, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert f"{1 + len(CONTRACT)} passed" in done.stdout, done.stdout


def test_the_strategy_has_the_types_that_the_code_here_has(tmp_path: Path) -> None:
    write_files(STRATEGY, tmp_path)
    command = [sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "--follow-imports=silent"]
    environment = {**os.environ, "MYPYPATH": f"{ROOT}:{tmp_path}"}
    files = [str(file) for file in tmp_path.glob("*.py")]
    done = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@contextmanager
def running(program: Path, port: int) -> Iterator[None]:
    """Run a program that serves HTTP on `port`."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with subprocess.Popen([sys.executable, str(program)], stderr=subprocess.DEVNULL) as process:
        try:
            until(listens)
            yield
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def importing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the function be found beside the settings file, for this test only."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    import_beside(tmp_path / "decant.yaml")


@pytest.mark.usefixtures("importing_beside")
def test_the_rewards_score_as_the_page_shows(tmp_path: Path) -> None:
    port = free_port()
    write_files(REWARD, tmp_path, port)
    [written], [command], [answer] = shown(REWARD, "yaml"), shown(REWARD, "sh"), shown(REWARD, "json")
    found = read(None, yaml.safe_load(written.text.replace("8001", str(port))), {}).settings
    assert found is not None
    policy, text = ToyPolicy(), ToyText()
    rewards: dict[str, Reward] = {}
    closers: list[Callable[[], Awaitable[None]]] = []
    for name, spec in found.rewards.items():
        rewards[name], _ = build_reward(spec, cast(Any, policy), cast(Any, text), None, closers)
    loaded = Loaded(Models(policy, rewards), text, dict.fromkeys(rewards, "page"), closers=closers)
    with running(tmp_path / "steps_server.py", port), serving(loaded) as api:
        real = curl(command, api.url)
        named = {"strategy": "best_of_n", "n": 4, "reward": {"terse": 1, "steps": 4}}
        assert api.chat(decoding=named)["decoding"]["results"][0]["rewards"].keys() == {"terse", "steps"}
    [expected] = values(answer.text)
    assert list(shape(expected, real)) == []
    assert [(one["rewards"], one["total"]) for one in real["data"]] == [
        (one["rewards"], one["total"]) for one in expected["data"]
    ]
