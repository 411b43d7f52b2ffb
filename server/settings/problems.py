"""A line for each mistake in the settings: where the wrong value comes from, which field it is, and what is wrong."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from server.settings.environment import variable
from server.settings.schema_names import Path, SchemaNames

Place = tuple[str | int, ...]
TAGS = ("kind", "strategy", "by")  # the fields that say which member of a union an object is


def problem_lines(
    error: ValidationError,
    names: SchemaNames,
    *,
    source: str,
    values: dict[str, Any],
    base: dict[str, Any],
    overrides: Mapping[Path, Any],
    unreadable: bool,
) -> Iterator[str]:
    """Yield a line for each of pydantic's errors.

    Args:
        source: What `base` was read from.
        values: What was validated: `base`, overridden by the environment's values.
        base: The values of the file and of defaults.
        overrides: The environment's values.
        unreadable: The file could not be read, so what is missing may be in it.
    """
    for one in error.errors():
        place = _place(one["loc"], values)
        if one["loc"][-1:] == ("[key]",):  # a name that is no text: a problem of the file, which lists it
            continue
        if unreadable and not _has(values, place):
            continue
        yield _line(_variable(place, base, overrides) or source, place, one, names)


def _line(source: str, place: Place, error: Any, names: SchemaNames) -> str:
    where = ".".join(map(str, place))
    if error["type"] == "extra_forbidden":
        close = get_close_matches(str(place[-1]), names.fields(tuple(map(str, place[:-1]))), 1, 0.6)
        what = f"there is no such setting{f'; did you mean {close[0]}?' if close else ''}"
    elif error["type"] == "missing":
        what = "is missing"
    else:
        what = error["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
        given = error["input"]
        if error["type"] != "value_error":  # those are worded by this project
            what = what[0].lower() + what[1:]
            what += f", and not {given!r}" if isinstance(given, str | int | float) else ""
    what = " ".join(what.split())
    return f"{source}: {where}: {what}" if where else f"{source}: {what}"


def _place(loc: Place, values: Any) -> Place:
    """Return where `values` have what pydantic names, without the names of union members that it adds."""
    place: list[str | int] = []
    entered = False  # whether an object was entered that may be a union's, whose member's name would come next
    for part in loc:
        if entered and part in (values.get(tag) for tag in TAGS):
            entered = False
            continue
        place.append(part)
        values = values.get(part) if isinstance(values, dict) else None
        entered = isinstance(values, dict)
    return tuple(place)


def _variable(place: Place, base: dict[str, Any], overrides: Mapping[Path, Any]) -> str | None:
    """Return the variable of the environment that the mistake at `place` comes from, if it comes from one."""
    for end in range(len(place), 0, -1):
        part = tuple(map(str, place[:end]))
        if end < len(place) and _has(base, part):
            return None
        for path in overrides:
            if path[:end] == part or part[: len(path)] == path:
                return variable(path)
    return None


def _has(values: Any, place: Place) -> bool:
    for step in place:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True
