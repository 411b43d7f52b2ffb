"""The settings file inside `vllm serve`: what vLLM decides there, the file may only say alike."""

import os
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from server.commands import vllm_args
from server.settings import SettingsError
from server.starting import settings
from server.vllm_plugin.hosted_settings import hosted_settings
from tests.support.preflight import POLICY, REWARD


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


def args(model: str = POLICY, *names: str, **flags: str) -> Namespace:
    return Namespace(model=model, served_model_name=list(names) or None, api_server_count=None, **flags)


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, **sections: object) -> None:
    file = folder / "decant.yaml"
    file.write_text(yaml.safe_dump(sections))
    monkeypatch.setenv("DECANT_CONFIG", str(file))


def test_without_a_file_there_is_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hosted_settings(args(), []).policy.served_name == POLICY
    monkeypatch.setenv("DECANT_CONFIG", "")
    assert hosted_settings(args(POLICY, "first", "second"), []).policy.served_name == "first"


def test_a_file_for_decant_serve_is_a_file_for_this(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "beside_the_settings.py").write_text("def f(prompts, completions): return [0.0 for _ in completions]\n")
    rewards = {"f": {"kind": "function", "function": "beside_the_settings:f"}}
    presets = {"mine": {"strategy": "best_of_n", "reward": "f"}}
    policy = {"model": POLICY, "name": "mine", "engine": {"max_num_seqs": 8}}
    use(monkeypatch, tmp_path, policy=policy, rewards=rewards, presets=presets, server={"port": 1})
    settings = hosted_settings(args(POLICY, "mine"), [])
    assert settings.rewards.keys() == {"f"}
    assert settings.presets.keys() == {"mine"}


def test_every_conflict_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(
        monkeypatch,
        tmp_path,
        policy={"model": POLICY, "name": "mine", "tool_call_parser": "hermes", "reasoning_parser": "qwen3"},
        guides={"g": {"kind": "arm", "model": POLICY}},
        guided_engine={},
        server={"api_keys_file": str(tmp_path / "keys"), "operations_port": 9000, "cors_origins": ["*"], "docs": False},
    )
    with pytest.raises(SettingsError) as caught:
        hosted_settings(args("/models/other", "theirs", reasoning_parser="qwen3"), ["the engine is wrong"])
    lines = caught.value.problems
    assert lines[0] == "the engine is wrong"
    assert not any("reasoning_parser" in line for line in lines)  # the two agree
    for word in (
        "policy.model is",
        "policy.name is mine",
        "policy.tool_call_parser is hermes",
        "guided_engine: inside",
        "server.api_keys_file: inside",
        "server.operations_port: inside",
        "server.cors_origins: inside",
        "server.docs: inside",
    ):
        assert sum(line.startswith(word) for line in lines) == 1, lines


def test_mistakes_of_the_file_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, rewards={"f": {"kind": "function", "function": "nowhere_at_all:f"}}, prests={})
    with pytest.raises(SettingsError) as caught:
        hosted_settings(args(), [])
    text = str(caught.value)
    assert "prests: there is no such setting; did you mean presets?" in text
    assert "rewards.f.function: cannot import 'nowhere_at_all'" in text


def test_several_api_servers_do_not_start_an_engine_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rewards = {
        "model": {"kind": "classifier", "model": REWARD},
        "remote": {"kind": "http", "url": "http://127.0.0.1:1/classify"},
    }
    use(monkeypatch, tmp_path, rewards=rewards)
    several = args()
    several.api_server_count = 2
    with pytest.raises(SettingsError) as caught:
        hosted_settings(several, [])
    assert [line.partition(" ")[0] for line in caught.value.problems] == ["rewards.model:"]
    several.api_server_count = 1
    assert hosted_settings(several, []).rewards.keys() == rewards.keys()


def test_the_policy_cannot_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, policy={"model": POLICY, "url": "http://policy:8000/v1"})
    with pytest.raises(SettingsError) as caught:
        hosted_settings(args(POLICY), [])
    own = "policy.url: inside `vllm serve` the policy runs in its own engine; leave it out"
    assert own in caught.value.problems
    with pytest.raises(SettingsError) as caught:
        vllm_args(settings(tmp_path / "decant.yaml"))
    assert caught.value.problems == (own,)


def test_the_format_and_the_level_of_the_log_are_vllms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, policy={"model": POLICY}, logs={"format": "json", "level": "info", "texts": True})
    with pytest.raises(SettingsError) as caught:
        hosted_settings(args(), [])
    assert [line.partition(":")[0] for line in caught.value.problems] == ["logs.format", "logs.level"]
