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
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.engines.toy_text import ToyText
from server.loading import Loaded
from server.settings.reading import read
from tests.docs.asking import curl, shape
from tests.docs.blocks import PAGES_FOR_AUTHORS, ROOT, Block, of, values
from tests.support.serving import ok, refused, serving, until

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
        REWARD: ["python", "python", "python", "yaml", "sh", "sh", "json", "sh"],
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
    for module in ("terse", "faulty"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    import_beside(tmp_path / "decant.yaml")


def loaded_with(settings: str) -> Loaded:
    """Return the toy policy with the rewards of `settings`, built and limited in time as the server's are."""
    found = read(None, yaml.safe_load(settings), {}).settings
    assert found is not None
    policy, text = ToyPolicy(), ToyText()
    rewards: dict[str, Reward] = {}
    closers: list[Callable[[], Awaitable[None]]] = []
    for name, spec in found.rewards.items():
        reward, _ = build_reward(spec, cast(Any, policy), cast(Any, text), None, closers)
        rewards[name] = RewardWithTimeout(name, reward, spec.timeout_s)
    return Loaded(Models(policy, rewards), text, dict.fromkeys(rewards, "page"), closers=closers)


@pytest.mark.usefixtures("importing_beside")
def test_the_rewards_score_as_the_page_shows(tmp_path: Path) -> None:
    port = free_port()
    write_files(REWARD, tmp_path, port)
    [written], [_, command, use], [answer] = (shown(REWARD, language) for language in ("yaml", "sh", "json"))
    loaded = loaded_with(written.text.replace("8001", str(port)))
    with running(tmp_path / "steps_server.py", port), serving(loaded) as api:
        real = curl(command, api.url)
        assert curl(use, api.url)["decoding"]["results"][0]["rewards"].keys() == {"terse", "steps"}
        asking = {"completions": [" bad"], "reward": "counted", "messages": [{"role": "user", "content": "How many?"}]}
        assert ok(api.post("rewards", asking))["data"][0]["rewards"] == {"counted": 0.0}
        calibrated = {"prompt": "good", "completions": [" bad"], "reward": "terse", "calibrated": True, "rollouts": 8}
        assert 0 <= ok(api.post("rewards", calibrated))["data"][0]["calibrated_rewards"]["terse"] <= 1
    [expected] = values(answer.text)
    assert list(shape(expected, real)) == []
    assert [(one["rewards"], one["total"]) for one in real["data"]] == [
        (one["rewards"], one["total"]) for one in expected["data"]
    ]


def test_the_function_s_own_test_passes(tmp_path: Path) -> None:
    write_files(REWARD, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(("wrong", "problems"), [(False, []), (True, ["has no 'scroe'"])])
def test_check_says_what_is_wrong_with_the_function(tmp_path: Path, *, wrong: bool, problems: list[str]) -> None:
    write_files(REWARD, tmp_path)
    [written], [command, *_] = shown(REWARD, "yaml"), shown(REWARD, "sh")
    policy = ROOT / "training" / "garden" / "checkpoints" / "policy"
    text = written.text.replace("/models/policy", str(policy)) + "server: {port: 0}\n"
    (tmp_path / "decant.yaml").write_text(text.replace("terse:score", "terse:scroe") if wrong else text)
    script = f'decant() {{ "{sys.executable}" -m server.cli "$@"; }}\n{command.text}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("decant: ")]
    assert (done.returncode, len(said)) == (2 if wrong else 0, len(problems)), done.stderr
    assert all(problem in line for problem, line in zip(problems, said, strict=True))


FAULTY = """
import math, time
def raises(prompts, completions): raise ValueError("no")
def short(prompts, completions): return []
def slow(prompts, completions): return time.sleep(1)
def nan(prompts, completions): return [math.nan for _ in completions]
def none(prompts, completions): return [None for _ in completions]
def some(prompts, completions): return [math.nan if i % 2 else 1.0 for i, _ in enumerate(completions)]
"""
FAULTS = [
    ("raises", 502, "reward_failed"),
    ("short", 502, "reward_failed"),
    ("slow", 504, "reward_timeout"),
    ("nan", 502, "reward_failed"),
    ("none", 502, "reward_failed"),
]


@pytest.mark.usefixtures("importing_beside")
def test_failures_are_answered_as_the_page_s_table_says(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    names = [*(name for name, _, _ in FAULTS), "some"]
    rewards = {n: {"kind": "function", "function": f"faulty:{n}", "timeout_s": 0.3} for n in names}
    loaded = loaded_with(yaml.safe_dump({"policy": {"model": "toy"}, "rewards": rewards}))
    body = {"messages": [{"role": "user", "content": "good"}]}
    with serving(loaded) as api:
        for name, status, code in FAULTS:
            decoding = {"strategy": "best_of_n", "n": 4, "reward": name}
            error = refused(api.post("chat/completions", {**body, "decoding": decoding}), status)
            assert error["code"] == code
            page = (ROOT / REWARD).read_text()
            assert f"| {status}, `{code}`" in page
        result = api.chat(decoding={"strategy": "best_of_n", "n": 4, "reward": "some"})["decoding"]["results"][0]
        assert result["rewards"] == {"some": 1.0}
