"""docs/api.md: its tables are those of the schemas, and the toy answers its requests as it shows."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from server import loading
from server.http.openapi import OPERATIONS
from server.runtime.presets import offered
from server.settings import ServerSettings
from tests.docs import api_tables
from tests.docs.blocks import Block, of, pages
from tests.support.serving import Api, serving

PAGE = pages()["docs/api.md"]
TABLES = api_tables.tables(PAGE)
REQUESTS = list(zip(of("api")[::2], of("api")[1::2], strict=True))


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    loaded = loading.toy()
    with serving(loaded, offered({}, None, loaded.models, ServerSettings(), shipped=True)) as api:
        yield api


@pytest.mark.parametrize(("kind", "name", "text"), TABLES, ids=[f"{kind}-{name}" for kind, name, _ in TABLES])
def test_a_table_is_that_of_the_schemas(kind: str, name: str, text: str) -> None:
    assert text == api_tables.table(kind, name), "run: python -m tests.docs.api_tables"


def test_every_body_and_every_answer_has_a_table() -> None:
    shown = {name for kind, name, _ in TABLES if kind in ("answer", "body", "chunk")}
    models = [model for own in OPERATIONS.values() for model in (own.body, own.answer, own.chunk)]
    names = {model.__name__ for model in models if model is not None} - {"Health", "ModelCard"}  # a part of another's
    assert shown >= names | set(api_tables.APART) | set(api_tables.KINDS) | {"ErrorAnswer"}
    assert {(kind, name) for kind, name, _ in TABLES} >= {("noops", "BODY"), ("noops", "MESSAGE"), ("errors", "all")}


def test_every_endpoint_is_named() -> None:
    assert all(f"`{method.upper()} {path}`" in PAGE for method, path in OPERATIONS)


@pytest.mark.parametrize(("request_", "answer"), REQUESTS, ids=[request.name for request, _ in REQUESTS])
def test_the_toy_answers_as_shown(api: Api, request_: Block, answer: Block) -> None:
    script = request_.text.replace("http://127.0.0.1:8000", api.url)
    assert request_.language == "sh"
    assert script != request_.text
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=True)
    assert objects(done.stdout, answer.language) == objects(answer.text, answer.language)


def objects(text: str, language: str) -> list[Any]:
    """The JSON of an answer, or of each event of a stream and its comments, without what differs from run to run."""
    if language == "json":
        return [lasting(json.loads(text))]
    events = [line for line in text.splitlines() if line]
    assert events.pop() == "data: [DONE]"
    return [event if event[0] == ":" else lasting(json.loads(event.removeprefix("data: "))) for event in events]


def lasting(value: Any) -> Any:
    """`value` without ids and times, and with nine digits of its numbers."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in ("id", "created")}
        return {key: sorted(one) if key == "seconds" else lasting(one) for key, one in kept.items()}
    if isinstance(value, list):
        return [lasting(one) for one in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
