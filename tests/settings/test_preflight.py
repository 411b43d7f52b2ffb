"""What is cheap to know is known before any engine is started, all of it at once, a line each."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server import preflight
from server.settings import SettingsError
from server.settings.reading import read
from server.starting import settings

ROOT = Path(__file__).parents[2]
GARDEN = ROOT / "training" / "garden" / "checkpoints"
POLICY, REWARD = str(GARDEN / "policy"), str(GARDEN / "reward_helpful")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


def found(**sections: Any) -> list[str]:
    values = {"policy": {"model": POLICY}, "server": {"port": 0}, **sections}
    return preflight.problems(read(None, values, {}).sections)


def reward(**fields: Any) -> list[str]:
    return found(rewards={"r": fields})


def test_nothing_wrong_is_nothing_said() -> None:
    rewards = {"r": {"kind": "classifier", "model": REWARD}, "f": {"kind": "function", "function": "posixpath:join"}}
    guides = {"g": {"kind": "implicit", "model": str(GARDEN / "arm_helpful"), "reference": POLICY}}
    assert found(rewards=rewards, guides=guides) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/models/none", "there is no /models/none"),
        ("./none", f"there is no {Path.cwd() / 'none'}"),
        ("models/none/", f"there is no {Path.cwd() / 'models/none'}"),
        ("a/b/c", f"there is no {Path.cwd() / 'a/b/c'}"),
        ("my model", f"there is no {Path.cwd() / 'my model'}"),
        ("~/none", f"'~' is not expanded here: write the whole path, such as {Path.home() / 'none'}"),
        (str(ROOT / "docs"), f"{ROOT / 'docs'} holds no config.json"),
    ],
)
def test_a_model_that_is_not_there_is_told_wherever_it_is_named(model: str, words: str) -> None:
    assert found(policy={"model": model}) == [f"policy.model: {words}"]
    for kind in ("classifier", "process"):
        assert reward(kind=kind, model=model) == [f"rewards.r.model: {words}"]
    guides = {
        "a": {"kind": "arm", "model": POLICY, "base": model},
        "b": {"kind": "implicit", "model": POLICY, "reference_base": model},
    }
    assert found(guides=guides) == [f"guides.a.base: {words}", f"guides.b.reference_base: {words}"]
    adapters = {"c": {"kind": "implicit", "model": model, "reference": model}, "d": {"kind": "q_head", "model": model}}
    either = words.replace("no config.json", "no config.json or adapter_config.json")
    places = ["guides.c.model", "guides.c.reference", "guides.d.model"]
    assert found(guides=adapters) == [f"{place}: {either}" for place in places]


def test_an_adapter_is_a_guide_and_no_policy() -> None:
    adapter = str(ROOT / "server" / "demo" / "assets" / "guides" / "positive")
    assert found(guides={"g": {"kind": "implicit", "model": adapter, "base": POLICY}}) == []
    assert found(policy={"model": adapter}) == [f"policy.model: {adapter} holds no config.json"]


def test_a_configuration_elsewhere_is_enough(tmp_path: Path) -> None:
    policy = {"model": str(tmp_path), "engine": {"hf_config_path": POLICY}}
    assert found(policy=policy) == []
    policy["engine"] = {"hf_config_path": "/none", "tokenizer": "/neither"}
    assert found(policy=policy) == [
        "policy.engine.tokenizer: there is no /neither",
        "policy.engine.hf_config_path: there is no /none",
    ]


def test_an_id_is_looked_for_only_where_the_hub_is_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    ids = {"policy": {"model": "owner/model"}}
    assert found(**ids) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    [problem] = found(**ids)
    assert problem.startswith("policy.model: there is no ")
    assert problem.endswith("no 'owner/model' in the cache of the hub, which is off")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    assert found(**ids) == []


def test_a_head_that_is_not_there_is_told() -> None:
    assert found(guides={"g": {"kind": "q_head", "head": "/none"}}) == ["guides.g.head: there is no file /none"]


FUNCTIONS = {
    "raises:f": "cannot import 'raises': ZeroDivisionError: division by zero",
    "leaves:f": "cannot import 'leaves': SystemExit: 3",
    "good:g": "'good' ({folder}/good.py) has no 'g'",
    "good:number": "'good:number' is not callable",
    "good:later": "'good:later' is async; it has to be a plain function, which is called in a thread",
    "good:one": "'good:one' is not called as (prompts, completions): too many positional arguments",
    "none:f": "cannot import 'none': No module named 'none'",
}
FILES = {
    "good": "number = 1\nasync def later(a, b): ...\ndef one(a): ...\ndef f(a, b): return [1.0] * len(b)\n",
    "raises": "1 / 0",
    "leaves": "raise SystemExit(3)",
}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with functions, which can be imported from until the test ends."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


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


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", ["check", "serve", "calibrate"])
def test_all_of_it_is_told_at_once_and_nothing_is_started(name: str, beside: Path) -> None:
    config = beside / "decant.yaml"
    config.write_text(
        "policy: {model: /none, naem: p}\n"
        "rewards:\n"
        "  one: {kind: function, function: 'raises:f'}\n"
        "  two: {kind: classifier, model: /neither, timout_s: 1}\n"
        "  two: {kind: classifier, model: /neither, timout_s: 1}\n"
        "calibration: {store: '.'}\n"
        "server: {prot: 1, api_keys_file: /no_keys, host: 192.0.2.1}\n"
    )
    (beside / "prompts").write_text('{"prompt": "a"}\n')
    arguments = [str(beside / "prompts")] if name == "calibrate" else []
    done = command(name, *arguments, "--config", str(config), DECANT_SERVER_PORT="1")
    assert done.returncode == 2
    served = [
        "decant: server.api_keys_file: [Errno 2] No such file or directory: '/no_keys'",
        "decant: server.host: cannot listen on 192.0.2.1 port 8000: Cannot assign requested address",
    ]
    assert done.stderr.splitlines() == [
        f"decant: {config}: line 5: 'two' is there twice, first in line 4",
        "decant: DECANT_SERVER_PORT: there is no such setting; did you mean DECANT_SERVER__PORT?",
        f"decant: {config}: policy.naem: there is no such setting; did you mean name?",
        f"decant: {config}: rewards.two.timout_s: there is no such setting; did you mean timeout_s?",
        f"decant: {config}: server.prot: there is no such setting; did you mean port?",
        "decant: policy.model: there is no /none",
        "decant: rewards.two.model: there is no /neither",
        "decant: rewards.one.function: cannot import 'raises': ZeroDivisionError: division by zero",
        "decant: calibration.store: cannot use .: . is a folder",
        *(served if name != "calibrate" else []),
    ]


def test_a_check_of_the_demo_makes_nothing(tmp_path: Path) -> None:
    done = command("check", "--port", "0", DECANT_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "nothing wrong was found\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_lacks_a_package_is_told_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path))
    monkeypatch.setenv("DECANT_SERVER_PORT", "1")
    monkeypatch.setattr("server.demo.world.find_spec", lambda name: None if name == "peft" else True)
    with pytest.raises(SettingsError) as caught:
        settings(None, server={"host": "192.0.2.1"})
    demo, variable, host = caught.value.problems
    assert demo.startswith("the demo needs peft, which is not installed. In a checkout of Decant: `make install`")
    assert variable.startswith("DECANT_SERVER_PORT: there is no such setting")
    assert host.startswith("server.host: cannot listen on 192.0.2.1 port 8000")


def test_check_asks_vllm_too_about_every_model(beside: Path) -> None:
    config = beside / "decant.yaml"
    values: dict[str, Any] = {
        "policy": {"model": POLICY, "engine": {"max_modle_len": 1}},
        "rewards": {"r": {"kind": "classifier", "model": REWARD, "engine": {"dtype": "float31"}}},
        "server": {"port": 0},
    }
    config.write_text(yaml.safe_dump(values))
    done = command("check", "--config", str(config))
    lines = [line for line in done.stderr.splitlines() if line.startswith("decant: ")]
    assert done.returncode == 2
    assert [line.partition(f"vLLM cannot start '{POLICY}': ")[0] for line in lines[:1]] == ["decant: "]
    assert "max_modle_len" in lines[0]
    assert lines[1].startswith(f"decant: rewards.r: vLLM cannot start '{REWARD}': ")
    assert "float31" in lines[1]
    assert len(lines) == 2
