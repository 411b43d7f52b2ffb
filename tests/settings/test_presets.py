"""Presets in the settings: what is wrong with one is said with its field, before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from decoders import BestOfN
from server.settings.reading import read
from tests.support.preflight import found as preflight

POLICY = {"policy": {"model": "/models/policy"}}


def found(values: dict[str, Any], environment: dict[str, str] | None = None) -> list[str]:
    return read(None, {**POLICY, **values}, environment or {}).problems


def test_a_file_and_the_environment_set_them(tmp_path: Path) -> None:
    file = tmp_path / "decant.yaml"
    file.write_text("presets: {careful: {strategy: best_of_n, n: 4}}\ndefault_preset: careful\n")
    settings = read(file, POLICY, {"DECANT_PRESETS__CAREFUL__N": "5", "DECANT_SHIPPED_PRESETS": "false"}).settings
    assert settings is not None
    assert settings.presets == {"careful": BestOfN(n=5)}
    assert settings.default_preset == "careful"
    assert not settings.shipped_presets


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"presets": {"a": {"strategy": "best_of_n", "n": 0}}}, ["settings: presets.a.n: "]),
        (
            {"presets": {"a": {"strategy": "best_of_n", "rewards": "f"}}},
            ["settings: presets.a.rewards: there is no such setting; did you mean reward?"],
        ),
        ({"presets": {"a": {"n": 3}}}, ["settings: presets.a"]),
        (
            {"presets": {"a": {"strategy": "best_of_n", "proposal": {"strategy": "controlled", "beams": 0}}}},
            ["settings: presets.a.proposal.beams: "],
        ),
        ({"presets": {"a:b": {"strategy": "sample"}}}, ["settings: presets: 'a:b' is not a name"]),
        ({"default_preset": "swift"}, ["settings: default_preset: there is no preset 'swift'. Presets: beam-search"]),
        ({"default_preset": "dvts", "shipped_presets": False}, ["settings: default_preset: there is no preset 'dvts'"]),
    ],
)
def test_a_mistake_is_said_with_its_field(values: dict[str, Any], lines: list[str]) -> None:
    problems = found(values)
    assert len(problems) == len(lines)
    assert all(problem.startswith(line) for problem, line in zip(problems, lines, strict=True)), problems


def test_a_default_may_be_a_shipped_preset() -> None:
    assert found({"default_preset": "dvts"}) == []


@pytest.mark.parametrize(
    ("preset", "lines"),
    [
        ({"strategy": "best_of_n", "reward": "f"}, []),
        ({"strategy": "cascade", "accept_threshold": 1.0}, []),
        (
            {"strategy": "best_of_n", "reward": "g"},
            ["presets.a.reward: The reward 'g' is not loaded."],
        ),
        (
            {"strategy": "sample", "guides": {"g": 1}},
            ["presets.a.guides: The guide 'g' is not loaded."],
        ),
    ],
)
def test_a_name_that_is_not_in_the_settings_is_told_before_a_start(preset: dict[str, Any], lines: list[str]) -> None:
    rewards = {"f": {"kind": "function", "function": "posixpath:join"}}
    problems = preflight(rewards=rewards, presets={"a": preset})
    assert [problem.partition(" Loaded")[0] for problem in problems] == lines
