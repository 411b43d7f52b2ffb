"""From a file and the environment to settings, with every mistake in them at once, a line each."""

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from server.settings import environment as variables
from server.settings import file
from server.settings.sections import (
    AnyGuide,
    AnyReward,
    CalibrationSettings,
    PolicySettings,
    ServerSettings,
    Settings,
    SettingsError,
)

Values = dict[str, Any]
Place = tuple[str | int, ...]
T = TypeVar("T")
NAMED: dict[str, Any] = {"rewards": AnyReward, "guides": AnyGuide}
_ENTRIES: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in NAMED.items()}


@dataclass
class Parts:
    """What of the settings can be understood by itself, for checks that do not wait until all of it can."""

    policy: PolicySettings | None = None
    guides: dict[str, Any] = field(default_factory=dict)
    rewards: dict[str, Any] = field(default_factory=dict)
    calibration: CalibrationSettings | None = None
    server: ServerSettings | None = None


@dataclass
class Reading:
    """`settings` where nothing is wrong; `problems` has a line for each thing that is."""

    settings: Settings | None
    parts: Parts
    problems: list[str]


def read(config: Path | None, defaults: Values, environment: Mapping[str, str] | None = None) -> Reading:
    """`config` over `defaults`, both overridden by the environment."""
    written, problems = ({}, []) if config is None else file.load(config)
    unread = bool(problems) and not written
    base = {**defaults, **written}
    schema = Settings.model_json_schema()
    overrides, wrong = variables.read(schema, os.environ if environment is None else environment)
    problems += wrong
    values = deepcopy(base)
    for path, value in overrides.items():
        _put(values, path, value)
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        names = variables.Names(schema)
        for one in error.errors():
            place = _place(one["loc"])
            if one["loc"][-1:] == ("[key]",):  # a name that is no text, which reading the file has told
                continue
            if not unread or _has(values, place):  # what an unreadable file leaves out is not missing
                source = _variable(place, base, overrides) or str(config or "settings")
                problems.append(_line(source, place, one, names))
    return Reading(None if problems else settings, _parts(values), problems)


def read_settings(config: Path | None = None, **defaults: Any) -> Settings:
    """`config` over `defaults`, both overridden by the environment. Raises `SettingsError`."""
    found = read(config, defaults)
    if found.settings is None:
        raise SettingsError(*found.problems)
    return found.settings


def _parts(values: Values) -> Parts:
    parts = Parts(
        policy=_salvage(TypeAdapter(PolicySettings), values.get("policy")),
        calibration=_salvage(TypeAdapter(CalibrationSettings), values.get("calibration", {})),
        server=_salvage(TypeAdapter(ServerSettings), values.get("server", {})),
    )
    for section, found in (("guides", parts.guides), ("rewards", parts.rewards)):
        entries = values.get(section)
        for name, value in entries.items() if isinstance(entries, dict) else ():
            entry = _salvage(_ENTRIES[section], value)
            if entry is not None:
                found[str(name)] = entry
    return parts


def _salvage(adapter: TypeAdapter[T], value: object) -> T | None:
    """`value` without the fields that are wrong; None where too little is left."""
    value = deepcopy(value)
    for _ in range(2):
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            for one in error.errors():
                _drop(value, one["loc"])
    return None


def _drop(value: Any, place: Place) -> None:
    """Delete what is at `place`, whose steps may also name the member of a union."""
    for step in place[:-1]:
        if isinstance(value, dict) and step in value:
            value = value[step]
    if place and isinstance(value, dict):
        value.pop(place[-1], None)


def _line(source: str, place: Place, error: Any, names: variables.Names) -> str:
    where = ".".join(map(str, place))
    if error["type"] == "extra_forbidden":
        siblings = names.below(tuple(map(str, place[:-1])))
        close = get_close_matches(str(place[-1]), siblings, 1, 0.6)
        said = f"there is no such setting{f'; did you mean {close[0]}?' if close else ''}"
    elif error["type"] == "missing":
        said = "is missing"
    else:
        said = error["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
        given = error["input"]
        if error["type"] != "value_error":  # whose words are this project's own
            said = said[0].lower() + said[1:]
            said += f", and not {given!r}" if isinstance(given, str | int | float) else ""
    said = " ".join(said.split())
    return f"{source}: {where}: {said}" if where else f"{source}: {said}"


def _place(loc: Place) -> Place:
    """Where the settings have what pydantic names, without the kind that it adds for a reward or a guide."""
    return loc[:2] + loc[3:] if loc and loc[0] in NAMED and len(loc) > 2 else loc


def _variable(place: Place, base: Values, overrides: Mapping[tuple[str, ...], Any]) -> str | None:
    """The variable of the environment that what is wrong at `place` comes from."""
    for end in range(len(place), 0, -1):
        part = tuple(map(str, place[:end]))
        if end < len(place) and _has(base, part):
            return None
        for path in overrides:
            if path[:end] == part or part[: len(path)] == path:
                return variables.variable(path)
    return None


def _has(values: Any, place: Place) -> bool:
    for step in place:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True


def _put(values: Values, path: tuple[str, ...], value: Any) -> None:
    """Set what is at `path`, objects merged into objects."""
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
