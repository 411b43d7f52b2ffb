"""A model that does not exist is reported before any engine starts."""

import os
from pathlib import Path

import pytest

from tests.support.preflight import POLICY, ROOT, found, reward


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


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
