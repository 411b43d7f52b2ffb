"""Settings: a file, then the environment; what is wrong is said before anything is loaded."""

import os
import posixpath
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.engines.rewards.function_reward import load_function
from server.settings import (
    ClassifierReward,
    FunctionReward,
    HttpReward,
    ProcessReward,
    ServerSettings,
    Settings,
    SettingsError,
)
from server.settings.reading import read_settings

ROOT = Path(__file__).parents[2]

WHOLE = """
policy:
  model: models/policy
  engine: {max_model_len: 512}
rewards:
  default: {kind: classifier, model: models/reward, label: 1}
  steps: {kind: process, model: models/steps, reduce: min, step_tag: <extra_0>}
  tone: {kind: function, function: "math:sqrt", timeout_s: 5}
  remote: {kind: http, url: "http://judge:8000/classify", retries: 0}
server: {port: 9000, max_sequences: 8, api_keys_file: keys}
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "decant.yaml"
    file.write_text(text)
    return read_settings(file)


def test_a_file_says_everything(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE)
    assert settings.policy.engine == {"max_model_len": 512}
    assert settings.policy.served_name == "policy"
    default, steps, tone, remote = settings.rewards.values()
    assert isinstance(default, ClassifierReward)
    assert default.label == 1
    assert isinstance(steps, ProcessReward)
    assert (steps.reduce, steps.step_tag) == ("min", "<extra_0>")
    assert isinstance(tone, FunctionReward)
    assert tone.timeout_s == 5
    assert isinstance(remote, HttpReward)
    assert remote.retries == 0
    assert settings.server == ServerSettings(port=9000, max_sequences=8, api_keys_file=Path("keys"))
    assert settings.server.host == "127.0.0.1", "open to this machine alone unless told otherwise"


def test_the_environment_overrides_single_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECANT_SERVER__PORT", "9001")
    monkeypatch.setenv("DECANT_POLICY__NAME", "frozen")
    monkeypatch.setenv("DECANT_POLICY__ENGINE", '{"max_model_len": 64}')
    settings = read(tmp_path, WHOLE)
    assert (settings.server.port, settings.server.max_sequences) == (9001, 8)
    assert (settings.policy.model, settings.policy.served_name) == ("models/policy", "frozen")
    assert settings.policy.engine == {"max_model_len": 64}


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECANT_POLICY__MODEL", "models/policy/")
    settings = read_settings()
    assert settings.policy.served_name == "policy"
    assert settings.rewards == {}


def test_a_file_goes_over_defaults_and_the_environment_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "decant.yaml"
    file.write_text("server: {port: 1, max_queue: 2}")
    monkeypatch.setenv("DECANT_SERVER__PORT", "3")
    settings = read_settings(file, policy={"model": "toy"})
    assert (settings.policy.model, settings.server.port, settings.server.max_queue) == ("toy", 3, 2)


REWARD = "policy: {model: a}\nrewards: {r: {%s}}"
WRONG = [
    ("", "policy"),
    ("policy: {model: a}\nzip: 1", "zip"),
    ("policy: {model: a, zip: 1}", "policy.zip"),
    ("policy: {model: a}\nserver: {prot: 1}", "server.prot"),
    ("policy: {model: a}\nserver: {port: 70000}", "server.port"),
    ("policy: {model: a}\nserver: {port: many}", "server.port"),
    ("policy: {model: a}\nserver: {max_sequences: 0}", "server.max_sequences"),
    ("policy: {model: a}\nserver: {request_timeout_s: 0}", "server.request_timeout_s"),
    ("policy: {model: a}\nserver: {drain_timeout_s: -1}", "server.drain_timeout_s"),
    ("policy: {model: a}\nrewards: {my-reward: {kind: classifier, model: a}}", "'my-reward' is not a name"),
    (REWARD % "model: a", "kind"),
    (REWARD % "kind: zip", "'classifier', 'process', 'function', 'http'"),
    (REWARD % "kind: classifier", "model"),
    (REWARD % "kind: classifier, model: a, timeout_s: 0", "timeout_s"),
    (REWARD % "kind: process, model: a, reduce: product", "set activation: true"),
    (REWARD % "kind: process, model: a, reduce: sum", "'product'"),
    (REWARD % "kind: process, model: a, template: pair", "classifiers alone"),
    (REWARD % "kind: classifier, model: a, template: none, chat_template: b", "template: own, and not with none"),
    (REWARD % "kind: http, url: http://a/pooling, template: pair", "template"),
    (REWARD % 'kind: function, function: "math.sqrt"', "function"),
    (REWARD % 'kind: http, url: "http://judge/score"', "url"),
    (REWARD % 'kind: http, url: "judge/classify"', "url"),
    (REWARD % 'kind: http, url: "http://judge/classify", retries: 9', "retries"),
    ("policy: {model: [", "while parsing"),
    ("- policy", "decant.yaml"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "decant.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("DECANT_SERVER__PORT", "many"), ("DECANT_SERVER", "{"), ("DECANT_SERVER__ZIP", "1")]
)
def test_a_wrong_environment_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"(?i)server"):
        read(tmp_path, WHOLE)


def test_a_product_of_probabilities_is_allowed(tmp_path: Path) -> None:
    settings = read(tmp_path, REWARD % "kind: process, model: a, reduce: product, activation: true")
    [reward] = settings.rewards.values()
    assert isinstance(reward, ProcessReward)


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings: Any = read(tmp_path, WHOLE)
    for section, field in ((settings, "policy"), (settings.server, "port"), (settings.rewards["default"], "label")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, None)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("math:no_such_function", "no_such_function"),
        ("math:pi", "'math:pi' is not callable"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_a_settings_error(function: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_function(function)


def test_a_function_is_loaded_by_its_name() -> None:
    assert load_function("posixpath:join").function is posixpath.join


def serve(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "server.cli", "serve", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--config", "missing.yaml"], {}, "decant: there is no settings file missing.yaml"),
        (["--toy"], {"DECANT_SERVER__PORT": "many"}, "server.port"),
        (["--toy", "--port", "70000"], {}, "65535"),
    ],
)
def test_serve_exits_over_wrong_settings_with_a_clear_message(
    arguments: list[str], environment: dict[str, str], words: str
) -> None:
    done = serve(*arguments, **environment)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
