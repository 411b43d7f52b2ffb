"""The settings file, read strictly: a key that occurs twice is a mistake, where YAML alone would take the last one."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class _Strict(yaml.SafeLoader):
    """Collects mistakes: a key that occurs twice in one mapping, and a key that YAML does not read as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":  # a list as a key is refused by YAML itself
                self.problems.append(f"line {line}: {key.value} is not read as a name; put it in quotes if it is one")
            elif key.value in lines:
                self.problems.append(f"line {line}: '{key.value}' is there twice, first in line {lines[key.value]}")
            else:
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the values of a settings file, and a line for each mistake in it as a file."""
    if not path.is_file():
        return {}, [f"there is no settings file {path}"]
    try:
        loader = _Strict(path.read_text(encoding="utf-8"))
        values = loader.get_single_data()
    except (OSError, ValueError, yaml.YAMLError) as error:
        return {}, [f"{path}: {' '.join(str(error).split())}"]
    # A mapping with an anchor is checked at each use, and would be reported as often.
    problems = [f"{path}: {problem}" for problem in dict.fromkeys(loader.problems)]
    if values is None:
        return {}, problems
    if not isinstance(values, dict):
        return {}, [f"{path}: holds a {type(values).__name__}, not names with their values"]
    return {str(name): value for name, value in values.items()}, problems
