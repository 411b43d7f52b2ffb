"""From a file and the environment to settings, with every mistake in them at once, a line each."""

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from server.settings.environment import read_variables
from server.settings.problems import problem_lines
from server.settings.schema_names import SchemaNames
from server.settings.section import SettingsError
from server.settings.sections import Settings
from server.settings.settings_file import read_file
from server.settings.valid_sections import ValidSections, valid_sections


@dataclass
class ReadSettings:
    """`settings` if nothing is wrong; `problems` has a line for each mistake."""

    settings: Settings | None
    sections: ValidSections
    problems: list[str]


def read(config: Path | None, defaults: dict[str, Any], environment: Mapping[str, str] | None = None) -> ReadSettings:
    """Read `config` over `defaults`, both overridden by the environment (by default the process's)."""
    written, problems = ({}, []) if config is None else read_file(config)
    unreadable = bool(problems) and not written
    base = {**defaults, **written}
    names = SchemaNames(Settings.model_json_schema())
    overrides, mistakes = read_variables(names, os.environ if environment is None else environment)
    problems += mistakes
    values = deepcopy(base)
    for path, value in overrides.items():
        _put(values, path, value)
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += problem_lines(
            error,
            names,
            source=str(config or "settings"),
            values=values,
            base=base,
            overrides=overrides,
            unreadable=unreadable,
        )
    return ReadSettings(None if problems else settings, valid_sections(values), problems)


def read_settings(config: Path | None = None, **defaults: Any) -> Settings:
    """Read `config` over `defaults`, both overridden by the environment. Raises `SettingsError`."""
    found = read(config, defaults)
    if found.settings is None:
        raise SettingsError(*found.problems)
    return found.settings


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set the value at `path`; an object is merged into the object that is there."""
    for step in path[:-1]:
        inner = values.get(step)
        if not isinstance(inner, dict):
            inner = values[step] = {}
        values = inner
    old = values.get(path[-1])
    if isinstance(old, dict) and isinstance(value, dict):
        for key, one in value.items():
            _put(old, (key,), one)
    else:
        values[path[-1]] = value
