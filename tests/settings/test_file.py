"""Settings as they are written: a file read strictly, and variables that name a setting or are mistakes."""

from pathlib import Path
from typing import Any

import pytest

from server.settings import SettingsError
from server.settings.reading import read, read_settings
from server.settings.settings_file import read_file


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "decant.yaml"
    path.write_text(text)
    return path


def problems(path: Path | None, **environment: str) -> list[str]:
    found = read(path, {}, environment)
    assert (found.settings is None) == bool(found.problems)
    return [problem.replace(f"{path}: ", "") for problem in found.problems]


SMALL = "policy: {model: a}\n"


def test_keys_that_are_there_twice_are_all_told_with_both_lines(tmp_path: Path) -> None:
    text = "policy: {model: a, model: b}\nserver:\n  port: 1\n  host: x\n  port: 2\npolicy: {}\n"
    assert problems(file(tmp_path, text))[:3] == [
        "line 6: 'policy' is there twice, first in line 1",
        "line 1: 'model' is there twice, first in line 1",
        "line 5: 'port' is there twice, first in line 3",
    ]


def test_a_merged_key_is_not_there_twice(tmp_path: Path) -> None:
    text = (
        "policy: {model: a}\nrewards:\n  one: &base {kind: classifier, model: a, label: 1}\n"
        "  two: {<<: *base, label: 2}\n  three: {<<: *base}\n"
    )
    assert problems(file(tmp_path, text)) == []
    settings = read_settings(file(tmp_path, text))
    assert [getattr(reward, "label", None) for reward in settings.rewards.values()] == [1, 2, 1]


@pytest.mark.parametrize("key", ["no", "on", "1", "2.5", "null", "2020-01-01"])
def test_a_name_that_yaml_reads_as_something_else_is_told(tmp_path: Path, key: str) -> None:
    [problem] = problems(file(tmp_path, f"{SMALL}rewards:\n  {key}: {{kind: http, url: 'http://a/classify'}}\n"))
    assert problem == f"line 3: {key} is not read as a name; put it in quotes if it is one"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "holds a list, not names with their values"),
        ("policy", "holds a str, not names with their values"),
        ("policy: [", "while parsing a flow node"),
        ("policy: a\n--- \npolicy: b", "expected a single document"),
        ("policy: {model: !!python/name:os.system x}", "could not determine a constructor"),
        ("[a, b]: 1", "unhashable key"),
    ],
)
def test_what_is_no_settings_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    values, wrong = read_file(file(tmp_path, text))
    assert (values, len(wrong)) == ({}, 1)
    assert words in wrong[0]
    assert "\n" not in wrong[0]


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "decant.yaml"
    path.write_bytes(b"policy: {model: \xff}")
    values, wrong = read_file(path)
    assert values == {}
    assert "utf-8" in wrong[0]


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    assert read_file(file(tmp_path, "# nothing yet\n")) == ({}, [])


def test_what_an_unreadable_file_may_say_is_not_called_missing(tmp_path: Path) -> None:
    path = tmp_path / "missing.yaml"
    assert read(path, {}, {}).problems == [f"there is no settings file {path}"]


def test_every_mistake_is_told_at_once_with_its_place_and_a_guess(tmp_path: Path) -> None:
    text = (
        "policy: {model: a, naem: b}\nserver: {prot: 1, max_queue: many}\n"
        "rewards:\n  one: {kind: classifier, modle: x}\n  two: {kind: zip}\nzip: 1\n"
    )
    assert problems(file(tmp_path, text), DECANT_SERVER__MAX_PROMPTS="0") == [
        "policy.naem: there is no such setting; did you mean name?",
        "rewards.one.model: is missing",
        "rewards.one.modle: there is no such setting; did you mean model?",
        "rewards.two: input tag 'zip' found using 'kind' does not match any of the expected tags: "
        "'classifier', 'process', 'function', 'http', 'guide'",
        "server.max_queue: input should be a valid integer, and not 'many'",
        "DECANT_SERVER__MAX_PROMPTS: server.max_prompts: input should be greater than 0, and not '0'",
        "server.prot: there is no such setting; did you mean port?",
        "zip: there is no such setting",
    ]


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("DECANT_SERVER_PORT", "DECANT_SERVER__PORT"),
        ("DECANT_SERVER__PROT", "DECANT_SERVER__PORT"),
        ("DECANT_POLICY_MODEL", "DECANT_POLICY__MODEL"),
        ("DECANT_CALIBRATION__STOER", "DECANT_CALIBRATION__STORE"),
        ("DECANT_SERVER__PORT__X", "DECANT_SERVER__PORT"),
        ("DECANT_QQQ", None),
    ],
)
def test_a_misspelt_variable_is_a_mistake(tmp_path: Path, name: str, guess: str | None) -> None:
    [problem] = problems(file(tmp_path, SMALL), **{name: "1"})
    assert problem == f"{name}: there is no such setting" + (f"; did you mean {guess}?" if guess else "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DECANT_SERVER_PORT", ""),  # empty: not set
        ("DECANT_CACHE", "/cache"),
        ("DECANT_PORT", "tcp://10.0.0.1:8000"),
        ("DECANT_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("DECANT_SERVICE_HOST", "10.0.0.1"),
        ("DECANT_GPU_SERVICE_PORT_HTTP", "8000"),
        ("decant_server__port", "1"),
        ("DECANTER", "1"),
    ],
)
def test_variables_that_are_no_mistake(tmp_path: Path, name: str, text: str) -> None:
    assert problems(file(tmp_path, SMALL), **{name: text}) == []


def values(tmp_path: Path, text: str, **environment: str) -> dict[str, Any]:
    found = read(file(tmp_path, text), {}, environment)
    assert found.problems == []
    assert found.settings is not None
    return found.settings.model_dump()


def test_variables_set_single_fields_and_merge_objects(tmp_path: Path) -> None:
    text = "policy: {model: a, engine: {max_model_len: 8, seed: 1}}\nrewards: {r: {kind: classifier, model: a}}\n"
    settings = values(
        tmp_path,
        text,
        DECANT_POLICY__ENGINE__MAX_MODEL_LEN="64",
        DECANT_POLICY__ENGINE__DTYPE="float32",
        DECANT_POLICY='{"name": "json"}',
        DECANT_POLICY__NAME="123",
        DECANT_REWARDS__R__LABEL="1",
        DECANT_REWARDS__R__ENGINE='{"enforce_eager": true}',
    )
    assert settings["policy"]["engine"] == {"max_model_len": 64, "seed": 1, "dtype": "float32"}
    assert settings["policy"]["name"] == "123", "a name is a text, whatever it looks like"
    assert settings["rewards"]["r"]["label"] == 1
    assert settings["rewards"]["r"]["engine"] == {"enforce_eager": True}


def test_a_reward_that_only_a_misspelt_variable_names_is_told_by_it(tmp_path: Path) -> None:
    text = f"{SMALL}rewards: {{default: {{kind: classifier, model: a}}}}\n"
    [problem] = problems(file(tmp_path, text), DECANT_REWARDS__DEFUALT__MODEL="b")
    assert problem.startswith("DECANT_REWARDS__DEFUALT__MODEL: rewards.defualt: ")


def test_a_variable_that_is_no_json_is_told(tmp_path: Path) -> None:
    [problem] = problems(file(tmp_path, SMALL), DECANT_SERVER="{")
    assert problem.startswith("DECANT_SERVER: server is given as JSON, and this is none: ")


@pytest.mark.parametrize(
    "url",
    ["http://a:99999/classify", "http:///classify", "http://:80/classify", "http://a b/classify", "http://[/classify"],
)
def test_an_address_of_no_server_is_a_mistake(tmp_path: Path, url: str) -> None:
    [problem] = problems(file(tmp_path, f"{SMALL}rewards: {{r: {{kind: http, url: '{url}'}}}}"))
    assert problem.startswith("rewards.r.url: ")


def test_the_error_has_every_problem(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(file(tmp_path, "policy: {model: a, b: 1, c: 1}"))
    assert len(caught.value.problems) == 2
    assert str(caught.value).count("\n") == 1
