"""What is cheap to check is checked before any engine starts, all of it at once, a line each."""

import os
import socket
import sys
from pathlib import Path

import pytest
import yaml

from server import preflight
from server.settings import SettingsError
from server.settings.reading import read
from server.starting import settings
from tests.support.preflight import GARDEN, POLICY, REWARD, found, reward


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


def test_nothing_wrong_is_nothing_said() -> None:
    rewards = {"r": {"kind": "classifier", "model": REWARD}, "f": {"kind": "function", "function": "posixpath:join"}}
    guides = {"g": {"kind": "implicit", "model": str(GARDEN / "arm_helpful"), "reference": POLICY}}
    assert found(rewards=rewards, guides=guides) == []


FUNCTIONS = {
    "raises:f": "cannot import 'raises': ZeroDivisionError: division by zero",
    "leaves:f": "cannot import 'leaves': SystemExit: 3",
    "good:g": "'good' ({folder}/good.py) has no 'g'",
    "good:number": "'good:number' is not callable",
    "good:columns": "'good:columns' is called as TRL calls it, with prompts, completions, completion_ids and without a "
    "dataset's columns: missing a required argument: 'answer'",
    "good:one": "'good:one' is not called as (prompts, completions): too many positional arguments",
    "none:f": "cannot import 'none': No module named 'none'",
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_cannot_be_used_is_told(function: str, beside: Path) -> None:
    sys.path.append(str(beside))
    [problem] = reward(kind="function", function=function)
    assert problem == f"rewards.r.function: {FUNCTIONS[function].format(folder=beside)}"


def test_a_function_beside_the_settings_file_is_found(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(beside.parent)
    rewards = {"r": {"kind": "function", "function": "good:f"}}
    config = beside / "decant.yaml"
    config.write_text(yaml.safe_dump({"policy": {"model": POLICY}, "server": {"port": 0}, "rewards": rewards}))
    with pytest.raises(SettingsError, match="cannot import 'good'"):  # not from where the command happens to run
        raise SettingsError(*found(rewards=rewards))
    assert settings(Path(beside.name) / "decant.yaml").rewards.keys() == {"r"}
    assert sys.path[-1] == str(beside), "last, so that no file there hides an installed module"


def test_a_key_for_a_reward_elsewhere_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"kind": "http", "url": "http://a/classify", "api_key_env": "JUDGE_KEY"}
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    assert reward(**fields) == ["rewards.r.api_key_env: JUDGE_KEY is not set in the environment"]
    monkeypatch.setenv("JUDGE_KEY", "k")
    assert reward(**fields) == []


def test_a_store_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and longer than its head")
    (tmp_path / "empty").touch()
    for name, words in {"": "is a folder", "text": "file is not a database", "text/below": "is no folder"}.items():
        [problem] = found(calibration={"store": str(tmp_path / name)})
        assert problem.startswith(f"calibration.store: cannot use {tmp_path / name}: ")
        assert problem.endswith(words)
    for name in ("empty", "new", "new/folder/store"):
        assert found(calibration={"store": str(tmp_path / name)}) == []
        assert not (tmp_path / "new").exists(), "a check makes nothing"


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert found(server={"port": port}) == [f"server.port: something listens on 127.0.0.1 port {port} already"]
        values = {"policy": {"model": POLICY}, "server": {"port": port}}
        assert preflight.problems(read(None, values, {}).sections, serving=False) == []
    assert found(server={"port": port}) == []


def test_a_host_that_is_not_this_one_is_told() -> None:
    [problem] = found(server={"host": "192.0.2.1", "port": 0})
    assert problem.startswith("server.host: cannot listen on 192.0.2.1 port 0: ")
    [problem] = found(server={"host": "no host", "port": 0})
    assert problem.startswith("server.host: 'no host' is no address: ")


def test_a_key_file_without_keys_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    [problem] = found(server={"port": 0, "api_keys_file": str(tmp_path / "keys")})
    assert problem.startswith(f"server.api_keys_file: {tmp_path / 'keys'} has no key")


ELSEWHERE = {"model": POLICY, "url": "http://policy:8000/v1"}


def test_a_key_for_a_policy_elsewhere_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLICY_KEY", raising=False)
    policy = {**ELSEWHERE, "api_key_env": "POLICY_KEY"}
    assert found(policy=policy) == ["policy.api_key_env: POLICY_KEY is not set in the environment"]
    monkeypatch.setenv("POLICY_KEY", "k")
    assert found(policy=policy) == []


def test_a_preset_that_a_policy_elsewhere_cannot_run_is_told() -> None:
    preset = {"strategy": "cascade", "accept_threshold": 1.0}
    rewards = {"f": {"kind": "function", "function": "posixpath:join"}}
    [problem] = found(policy=ELSEWHERE, rewards=rewards, presets={"a": preset})
    assert problem == "presets.a.strategy: The policy is on another server (policy.url)."


@pytest.mark.parametrize(
    "url", ["policy:8000/v1", "http://policy:8000", "http:///v1", "ftp://policy/v1", "http://a b/v1"]
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    [problem] = read(None, {"policy": {"model": POLICY, "url": url}}, {}).problems
    assert problem == f"settings: policy.url: '{url}' is no address of a server: write http://HOST:PORT/v1"


def test_guides_have_no_engine_elsewhere() -> None:
    [problem] = read(None, {"policy": ELSEWHERE, "guides": {"g": {"kind": "arm", "model": POLICY}}}, {}).problems
    assert "policy.url: guides run in an engine of this server" in problem


def test_an_accounting_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    own = {"port": 0, "accounting_log": str(tmp_path / "no" / "log")}
    assert found(server=own) == [f"server.accounting_log: cannot write {tmp_path / 'no' / 'log'}"]
    assert found(server={"port": 0, "accounting_log": str(tmp_path / "log")}) == []
    assert not (tmp_path / "log").exists()
