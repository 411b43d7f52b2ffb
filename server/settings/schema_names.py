"""Which names the settings' JSON schema has, and where it leaves names or values free."""

from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str, ...]
Schema = Mapping[str, Any]


class SchemaNames:
    """Looks places up in a JSON schema; a place is the names of the fields that lead to it."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def forms(self, path: Path) -> list[Schema]:
        """Return every form that the value at `path` may have; none if there is no such place."""
        nodes = [*self._resolve(self._schema)]
        for step in path:
            nodes = [form for node in nodes for child in _children(node, step) for form in self._resolve(child)]
        return nodes

    def fields(self, path: Path) -> list[str]:
        """Return the names of the fields that the schema declares at `path`."""
        return list(dict.fromkeys(name for node in self.forms(path) for name in node.get("properties", ())))

    def declared(self, path: Path = ()) -> Iterator[Path]:
        """Yield the path of every field that the schema declares below `path`."""
        for name in self.fields(path):
            yield (*path, name)
            yield from self.declared((*path, name))

    def is_free(self, path: Path) -> bool:
        """Return whether the schema allows any value at `path`, as for an engine's arguments."""
        return any(not node.keys() - {"title", "description", "default"} for node in self.forms(path))

    def may_be_nested(self, path: Path) -> bool:
        """Return whether the value at `path` may be an object or a list."""
        return any(node.get("type") in ("object", "array") for node in self.forms(path))

    def may_be_text(self, path: Path) -> bool:
        """Return whether the value at `path` may be a string."""
        return any(node.get("type") == "string" for node in self.forms(path))

    def _resolve(self, node: Schema) -> Iterator[Schema]:
        """Yield the forms of a node, references and unions resolved."""
        if "$ref" in node:
            yield from self._resolve(self._schema["$defs"][node["$ref"].rpartition("/")[2]])
            return
        several = [form for key in ("anyOf", "oneOf", "allOf") for form in node.get(key, ())]
        for form in several:
            yield from self._resolve(form)
        if not several:
            yield node


def _children(node: Schema, step: str) -> Iterator[Schema]:
    if step in node.get("properties", {}):
        yield node["properties"][step]
        return
    others = node.get("additionalProperties", node.get("type") is None)
    if others is not False and node.get("type") in ("object", None):
        yield others if isinstance(others, Mapping) else {}
