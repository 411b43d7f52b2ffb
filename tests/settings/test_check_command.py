"""`decant check` and `decant serve` report every problem at once, and start nothing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import SettingsError
from server.starting import settings
from tests.support.preflight import POLICY, REWARD, ROOT


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


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
