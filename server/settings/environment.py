"""Settings from the environment: DECANT_SERVER__PORT=9000 is server.port, two underscores for each step down.

A variable that is empty counts as not set, as a compose file sets what nobody has named. One that names no setting is
a mistake: it would be ignored in silence.
"""

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

PREFIX = "DECANT_"
ELSEWHERE = frozenset({"DECANT_CACHE"})  # read by server.demo.world
# Kubernetes tells every pod about Services, so about one named decant-gpu: DECANT_GPU_SERVICE_HOST=10.0.0.1, and more.
SERVICE = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
SERVICE_URL = re.compile(r"(tcp|udp|sctp)://\S+:\d+")  # DECANT_PORT=tcp://10.0.0.1:8000

Path = tuple[str, ...]
Schema = Mapping[str, Any]


class Names:
    """Which names a JSON schema has, and where it leaves them free."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def at(self, path: Path) -> list[Schema]:
        """Every form that the value at `path` may have; none if there is no such place."""
        nodes = [*self._forms(self._schema)]
        for step in path:
            nodes = [form for node in nodes for child in _children(node, step) for form in self._forms(child)]
        return nodes

    def below(self, path: Path) -> list[str]:
        """The names that the schema itself gives to what lies at `path`."""
        return list(dict.fromkeys(name for node in self.at(path) for name in node.get("properties", ())))

    def free(self, path: Path) -> bool:
        """Whether the schema says nothing of the value at `path`, as of an engine's arguments."""
        nodes = self.at(path)
        return any(not node.keys() - {"title", "description", "default"} for node in nodes)

    def nested(self, path: Path) -> bool:
        """Whether the value at `path` may be an object or a list, which the environment gives as JSON."""
        return any(node.get("type") in ("object", "array") for node in self.at(path))

    def text(self, path: Path) -> bool:
        """Whether the value at `path` may be a text."""
        return any(node.get("type") == "string" for node in self.at(path))

    def variables(self, path: Path = ()) -> Iterator[str]:
        """The variables that the schema names."""
        for name in self.below(path):
            yield variable((*path, name))
            yield from self.variables((*path, name))

    def _forms(self, node: Schema) -> Iterator[Schema]:
        if "$ref" in node:
            yield from self._forms(self._schema["$defs"][node["$ref"].rpartition("/")[2]])
            return
        several = [form for key in ("anyOf", "oneOf", "allOf") for form in node.get(key, ())]
        for form in several:
            yield from self._forms(form)
        if not several:
            yield node


def variable(path: Path) -> str:
    return PREFIX + "__".join(path).upper()


def read(schema: Schema, environment: Mapping[str, str]) -> tuple[dict[Path, Any], list[str]]:
    """The values that the environment sets, by their place, upper places first; and a line for each variable that is
    wrong."""
    names = Names(schema)
    values: dict[Path, Any] = {}
    problems = []
    for name, text in sorted(environment.items()):
        if not name.upper().startswith(PREFIX) or not text or name.upper() in ELSEWHERE or _service(name, text):
            continue
        path = tuple(name[len(PREFIX) :].lower().split("__"))
        if not names.at(path):
            close = get_close_matches(name.upper(), names.variables(), 1, 0.8)
            problems.append(f"{name}: there is no such setting{f'; did you mean {close[0]}?' if close else ''}")
            continue
        try:
            values[path] = json.loads(text) if names.nested(path) or names.free(path) else text
        except ValueError as error:
            if not names.free(path) and not names.text(path):
                problems.append(f"{name}: {'.'.join(path)} is given as JSON, and this is none: {error}")
                continue
            values[path] = text
    return dict(sorted(values.items(), key=lambda item: len(item[0]))), problems


def _children(node: Schema, step: str) -> Iterator[Schema]:
    if step in node.get("properties", {}):
        yield node["properties"][step]
        return
    others = node.get("additionalProperties", node.get("type") is None)
    if others is not False and node.get("type") in ("object", None):
        yield others if isinstance(others, Mapping) else {}


def _service(name: str, text: str) -> bool:
    return bool(SERVICE.fullmatch(name) or (name.endswith("_PORT") and SERVICE_URL.fullmatch(text)))
