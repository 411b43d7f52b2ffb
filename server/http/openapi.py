"""/openapi.json: every path with its body, its answers and its errors.

FastAPI does not see the types of bodies and answers here, because the routes read bodies and write answers themselves.
So this table lists them; tests compare it with the app's routes and with real answers.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from server.http.auth import GUARDED
from server.http.errors import ERRORS
from server.http.schemas import pooling_responses as p
from server.http.schemas import responses as r
from server.http.schemas import server_responses as s
from server.http.schemas import tokenize as t
from server.http.schemas.chat import ChatBody
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.pooling import ClassifyBody, PoolingBody, ScoreBody
from server.http.schemas.reports import KeptReport
from server.http.schemas.rewards import RewardsBody

Json = dict[str, Any]
JSON = "application/json"
EVENTS = "text/event-stream"
PROMETHEUS = "text/plain"
TEXTUAL = (400, 401, 404, 413, 415, 429)
GENERATING = (400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504)


class Operation(NamedTuple):
    """One method of one path."""

    summary: str
    answer: type[BaseModel] | None  # None for plain text
    body: type[BaseModel] | None = None
    chunk: type[BaseModel] | None = None  # an event of a stream
    errors: tuple[int, ...] = ()
    failing: type[BaseModel] | None = None  # the body of a 503, if it is not an error
    parameter: str | None = None  # in the path


OPERATIONS: dict[tuple[Literal["get", "post"], str], Operation] = {
    ("post", "/v1/completions"): Operation(
        "Complete prompts", r.Completion, CompletionsBody, r.CompletionChunk, GENERATING
    ),
    ("post", "/v1/chat/completions"): Operation(
        "Answer a chat", r.ChatCompletion, ChatBody, r.ChatCompletionChunk, GENERATING
    ),
    ("post", "/v1/rewards"): Operation("Score completions", r.RewardList, RewardsBody, None, GENERATING),
    ("post", "/classify"): Operation("Classify texts or a chat", p.Classification, ClassifyBody, None, GENERATING),
    ("post", "/pooling"): Operation("Give a reward model's outputs", p.Pooling, PoolingBody, None, GENERATING),
    ("post", "/score"): Operation("Score pairs of texts", p.PairScores, ScoreBody, None, GENERATING),
    ("post", "/v1/score"): Operation("The same as /score", p.PairScores, ScoreBody, None, GENERATING),
    ("get", "/v1/reports/{answer}"): Operation(
        "Show how an earlier answer was chosen", KeptReport, errors=(401, 404), parameter="answer"
    ),
    ("get", "/v1/models"): Operation("List what is served", s.ModelList, errors=(401,)),
    ("get", "/v1/models/{name}"): Operation("Show a model", s.ModelCard, errors=(401, 404), parameter="name"),
    ("get", "/v1/strategies"): Operation("List strategies, rewards, guides and limits", s.StrategyList, errors=(401,)),
    ("post", "/tokenize"): Operation("Show the tokens of a text or a chat", t.Tokens, t.TokenizeBody, None, TEXTUAL),
    ("post", "/detokenize"): Operation("Show the text of tokens", t.Detokenized, t.DetokenizeBody, None, TEXTUAL),
    ("get", "/version"): Operation("Show which versions run", s.Version),
    ("get", "/ping"): Operation("The same as /healthz, with an empty body", None),
    ("post", "/ping"): Operation("The same as /healthz, with an empty body", None),
    ("get", "/health"): Operation("The same as /healthz, under vLLM's name", s.Health, failing=s.Health),
    ("get", "/healthz"): Operation("Whether the engines are alive", s.Health, failing=s.Health),
    ("get", "/readyz"): Operation("Whether to send requests here", s.Readiness, failing=s.Readiness),
    ("get", "/metrics"): Operation("Metrics, as Prometheus reads them", None),
}


@cache
def document() -> Json:
    """Return the whole document."""
    names, components = _components()

    def content(*kinds: tuple[str, type[BaseModel], JsonSchemaMode]) -> Json:
        return {media: {"schema": names[model, mode]} for media, model, mode in kinds}

    def operation(method: str, path: str, own: Operation) -> Json:
        answers: list[tuple[str, type[BaseModel], JsonSchemaMode]] = []
        if own.answer is not None:
            answers.append((JSON, own.answer, "serialization"))
        if own.chunk is not None:
            answers.append((EVENTS, own.chunk, "serialization"))
        plain = {PROMETHEUS: {"schema": {"type": "string"}}}
        replies = {"200": {"description": "The answer", "content": content(*answers) if answers else plain}}
        for status in own.errors:
            replies[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
        if own.failing is not None:
            replies["503"] = {
                "description": "The answer is no",
                "content": content((JSON, own.failing, "serialization")),
            }
        spec: Json = {"summary": own.summary, "operationId": _identifier(method, path), "responses": replies}
        if own.body is not None:
            spec["requestBody"] = {"required": True, "content": content((JSON, own.body, "validation"))}
        if own.parameter is not None:
            spec["parameters"] = [{"name": own.parameter, "in": "path", "required": True, "schema": {"type": "string"}}]
        if path.startswith(GUARDED):
            spec["security"] = [{}, {"key": []}]  # without a key, where the server has none
        return spec

    paths: dict[str, Json] = {}
    for (method, path), own in OPERATIONS.items():
        paths.setdefault(path, {})[method] = operation(method, path, own)
    error = content((JSON, s.ErrorAnswer, "serialization"))
    statuses = dict.fromkeys(kind.status for kind in ERRORS)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Decant",
            "version": "0.1.0",
            "description": "Inference-time alignment over the OpenAI API.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"Error{status}": {"description": _when(status), "content": error} for status in statuses},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _when(status: int) -> str:
    """Return all that may have happened where a response has this error status."""
    return " ".join(kind.when for kind in ERRORS if kind.status == status)


def _models() -> Iterable[tuple[type[BaseModel], JsonSchemaMode]]:
    for own in OPERATIONS.values():
        for model in (own.answer, own.chunk, own.failing):
            if model is not None:
                yield model, "serialization"
        if own.body is not None:
            yield own.body, "validation"
    yield s.ErrorAnswer, "serialization"


def _components() -> tuple[Mapping[tuple[Any, JsonSchemaMode], Json], Json]:
    models = list(dict.fromkeys(_models()))
    names, schema = models_json_schema(models, ref_template="#/components/schemas/{model}")
    components: Json = schema["$defs"]
    asked = _reachable([name["$ref"] for (_, mode), name in names.items() if mode == "validation"], components)
    for name in asked:
        _nullable(components[name])
    return names, components


def _reachable(starts: list[str], components: Json) -> set[str]:
    """Return the names of the components that `starts` refer to, directly or not."""
    found: set[str] = set()
    while starts:
        name = starts.pop().rpartition("/")[2]
        if name not in found:
            found.add(name)
            starts += references(components[name])
    return found


def references(schema: object) -> list[str]:
    """Return all references inside a schema."""
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [ref for value in schema.values() for ref in references(value)]
    return [ref for value in schema for ref in references(value)] if isinstance(schema, list) else []


def _nullable(schema: Json) -> None:
    """Let each optional field of a request be null: a null counts as a field that was not sent."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        if name not in required and {"type": "null"} not in field.get("anyOf", ()) and field.get("type") != "null":
            about = {key: field.pop(key) for key in ("description", "default", "title") if key in field}
            schema["properties"][name] = {**about, "anyOf": [field, {"type": "null"}]}


def _identifier(method: str, path: str) -> str:
    return "_".join([method, *path.replace("{", "").replace("}", "").strip("/").split("/")])
