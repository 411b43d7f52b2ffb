"""The tables of docs/api.md, made from the schemas: `python -m tests.docs.api_tables` writes them into the page.

A table follows a comment that names it, such as `<!-- body: ChatBody -->`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from server.http.errors import ERRORS
from server.http.openapi import OPERATIONS, document
from server.http.schemas import noops
from server.http.schemas.chat import ChatBody
from server.http.schemas.common import Body, StreamOptions
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.messages import ChatMessage
from server.http.schemas.pooling import ClassifyBody, PoolingBody, ScoreBody
from server.http.schemas.rewards import RewardsBody
from server.http.schemas.sampling import ResponseFormat, StructuredOutputs
from server.http.schemas.tokenize import DetokenizeBody, TokenizeBody
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "api.md"
TABLE = re.compile(r"<!-- (\w+): (\w+) -->\n((?:\|.*\n)*)")
APART = ("Usage", "PoolingUsage", "DecodingReport")  # objects that have a table of their own
SCHEMAS: dict[str, Any] = document()["components"]["schemas"]
KINDS: dict[str, type[BaseModel]] = {
    kind.__name__: kind
    for kind in (
        Body,
        ChatBody,
        ChatMessage,
        ClassifyBody,
        CompletionsBody,
        DetokenizeBody,
        PoolingBody,
        ResponseFormat,
        RewardsBody,
        ScoreBody,
        StreamOptions,
        StructuredOutputs,
        TokenizeBody,
    )
}
Row = tuple[str, ...]


def table(kind: str, name: str) -> str:
    """Return a table by its comment's two words."""
    columns, rows = {
        "endpoints": (("endpoint", "", "in 200"), _endpoints),
        "body": (("field", "values", "default", "meaning"), _body),
        "noops": (("field", "accepted", "other values are refused because"), _noops),
        "answer": (("field", "type", "meaning"), _answer),
        "chunk": (("field", "type", "meaning"), _chunk),
        "errors": (("`code`", "status", "`type`", "when"), _errors),
    }[kind]
    lines = [columns, tuple("---" for _ in columns), *rows(name)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(page: str) -> list[tuple[str, str, str]]:
    """Return the kind, the name and the text of each table of a page."""
    return TABLE.findall(page)


def _endpoints(_: str) -> Iterator[Row]:
    for (method, path), own in OPERATIONS.items():
        answer = "text" if own.answer is None else f"`{own.answer.__name__}`"
        yield f"`{method.upper()} {path}`", own.summary, answer


def _body(name: str) -> Iterator[Row]:
    """The fields of a request. What is in a table of a class that it extends is not repeated."""
    model = SCHEMAS["CompletionsBody" if name == "Body" else name]
    kind: type[BaseModel] = KINDS[name]
    extended = (other for other in KINDS.values() if other is not kind and issubclass(kind, other))
    fields = kind.model_fields.keys() - {field for other in extended for field in other.model_fields}
    for field, schema in model["properties"].items():
        if field in fields:
            default = "required" if field in model.get("required", ()) else _default(schema.get("default"))
            yield f"`{field}`", values_of(schema, null=False), default, _meaning(schema)


def _noops(name: str) -> Iterator[Row]:
    own = {"BODY": noops.CHAT, "MESSAGE": noops.MESSAGE}[name]
    for field, noop in own.items():
        shown = noop.schema.get("description") or values_of(noop.schema, null=True)
        yield f"`{field}`", shown, noop.reason.replace("|", "\\|")


def _answer(name: str) -> Iterator[Row]:
    """The fields of an answer, those of inner objects by their path."""
    schema = SCHEMAS[name]
    yield from _fields(schema, "")


def _chunk(name: str) -> Iterator[Row]:
    """The fields of a stream's chunk that are not in the whole answer, or are otherwise there."""
    whole = set(_answer(name.removesuffix("Chunk")))
    return (row for row in _answer(name) if row not in whole)


def _fields(model: dict[str, Any], path: str) -> Iterator[Row]:
    for field, schema in model["properties"].items():
        about = _meaning(schema)
        required = field in model.get("required", ())
        kind = values_of(schema, null=required or "null" in about) + ("" if required else "; may be absent")
        inner = _inner(schema)
        own = path + field
        yield f"`{own}`", kind, about or (inner or {}).get("description", "").replace("\n", " ")
        if inner is not None:
            mark = {"array": "[]", "object": ".*"}.get(_plain(schema).get("type", ""), "")
            yield from _fields(inner, f"{own}{mark}.")


def _inner(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the model of an object, or of a list's or mapping's values, if it has no table of its own."""
    plain = _plain(schema)
    inner = plain.get("items") or plain.get("additionalProperties") or plain
    name = _plain(inner).get("$ref", "").rpartition("/")[2] if isinstance(inner, dict) else ""
    return None if not name or name in APART else SCHEMAS[name]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the one schema that is not null."""
    others = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return others[0] if len(others) == 1 else schema


def _meaning(schema: dict[str, Any]) -> str:
    return str(schema.get("description", "")).replace("\n", " ").replace("|", "\\|")


def _default(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def values_of(schema: dict[str, Any], *, null: bool) -> str:
    """Say in words which values fit a JSON schema; `null` says whether to name null."""
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = [values_of(one, null=null) for one in schema[key] if null or one != {"type": "null"}]
            return " or ".join(dict.fromkeys(kinds))
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`" if schema["$ref"].rpartition("/")[2] in APART else "object"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"list of {values_of(schema['items'], null=null)}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {values_of(schema['additionalProperties'], null=null)}"
    return str(schema.get("type", "any")) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}" if high < 2**31 else f", at least {low:g}"
    above = schema.get("exclusiveMinimum")
    words = [f"over {above:g}" if above is not None else "", f"at most {high:g}" if high is not None else ""]
    words.append(f"at least {low:g}" if low is not None and abs(low) < 2**31 else "")
    found = ", ".join(word for word in words if word)
    return f", {found}" if found else ""


def _errors(_: str) -> Iterator[Row]:
    for kind in ERRORS:
        code = "null" if kind.code is None else f"`{kind.code}`"
        yield code, str(kind.status), f"`{kind.type}`", kind.when


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda found: f"<!-- {found[1]}: {found[2]} -->\n{table(found[1], found[2])}", page))


if __name__ == "__main__":
    main()
