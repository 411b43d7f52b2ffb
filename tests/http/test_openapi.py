"""/openapi.json against the app, real answers, and a client that is made from it."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel
from schemathesis.specs.openapi.checks import positive_data_acceptance, response_schema_conformance

from server.http.app import create_app
from server.http.openapi import OPERATIONS, references
from server.http.schemas import responses as r
from server.http.schemas import server_responses as s
from server.loading import toy
from tests.support.serving import Api, Json, events, ok, refused

STRATEGIES: list[Json] = [
    {"strategy": "sample", "reward": "default"},
    {"strategy": "reward_guided", "guides": {"kind": 1.0}},
    {"strategy": "best_of_n", "n": 4},
    {"strategy": "best_of_n", "n": 4, "select": {"by": "vote", "answer": "(good|bad)"}},
    {"strategy": "best_of_n", "n": 4, "calibrated": True, "rollouts": 4, "reward": {"default": 1, "brevity": 0.5}},
    {"strategy": "best_of_n", "n": 2, "proposal": {"strategy": "rejection", "calibrated": True, "rollouts": 4}},
    {"strategy": "best_of_n", "n": 8, "stop_at": 0.0, "batch": 2},
    {"strategy": "controlled", "candidates": 2, "block_tokens": 1},
    {"strategy": "rejection", "r_max": 4.0, "beta": 2.0},
    {"strategy": "particles", "particles": 4, "block_tokens": 1},
    {"strategy": "speculative_rejection", "n": 4, "checkpoints": [1]},
    {"strategy": "cascade", "accept_threshold": 0.0},
]
CHAT: Json = {"messages": [{"role": "user", "content": "good"}], "logprobs": True, "top_logprobs": 2}
COMPLETIONS: Json = {"prompt": ["good", "bad"], "logprobs": 2}


@pytest.fixture(scope="module")
def document(api: Api) -> Json:
    return ok(api.http.get("/openapi.json"))


def fits(model: type[BaseModel], answer: Json) -> None:
    """An answer that is exactly what the model says: no key more, no other type."""
    model.model_validate_json(json.dumps(answer), strict=True)


def test_every_path_of_the_app_is_in_it_and_no_other() -> None:
    routes = [route for route in create_app(toy()).routes if isinstance(route, APIRoute)]
    app = {(m.lower(), route.path.replace(":path", "")) for route in routes for m in route.methods - {"HEAD"}}
    assert app == set(OPERATIONS)


def test_it_has_the_projects_version(document: Json) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert document["info"]["version"] == project["version"]


def test_every_reference_is_to_a_component(document: Json) -> None:
    found = references(document)
    assert len(found) > 50
    for reference in found:
        here: Any = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]
    assert "$defs" not in json.dumps(document)


def test_answers_and_their_decoding_are_in_it(document: Json) -> None:
    for path, whole, chunk in (
        ("/v1/completions", "Completion", "CompletionChunk"),
        ("/v1/chat/completions", "ChatCompletion", "ChatCompletionChunk"),
    ):
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{whole}"}
        assert content["text/event-stream"]["schema"] == {"$ref": f"#/components/schemas/{chunk}"}
    properties = document["components"]["schemas"]["ChatCompletion"]["properties"]
    assert {"$ref": "#/components/schemas/DecodingReport"} in properties["decoding"]["anyOf"]
    body = document["components"]["schemas"]["ChatBody"]["properties"]
    assert body["audio"]["type"] == "null"
    assert body["tools"]["anyOf"][0]["items"] == {"$ref": "#/components/schemas/Tool"}
    assert {"type": "null"} in body["n"]["anyOf"]


@pytest.mark.parametrize("decoding", [None, *STRATEGIES], ids=json.dumps)
@pytest.mark.parametrize("n", [1, 2])
def test_real_answers_are_what_it_says(api: Api, decoding: Json | None, n: int) -> None:
    asked = None if decoding is None else {**decoding, "return_candidates": True, "return_kl": True}
    for path, start, whole, chunk in (
        ("completions", COMPLETIONS, r.Completion, r.CompletionChunk),
        ("chat/completions", CHAT, r.ChatCompletion, r.ChatCompletionChunk),
    ):
        body = {**start, "n": n, "seed": 3, "decoding": asked}
        fits(whole, ok(api.post(path, body)))
        options = {"include_usage": True, "continuous_usage_stats": True, "include_obfuscation": True}
        for more in ({}, {"stream_options": options}):
            streamed = api.post(path, {**body, "stream": True, **more})
            for event in events(streamed.text)[0]:
                fits(chunk, event)


def test_other_answers_are_what_it_says(api: Api) -> None:
    body = {"prompt": "good", "completions": ["bad", "odd"], "reward": {"default": 1, "brevity": 1}}
    for more in ({}, {"calibrated": True, "rollouts": 4}):
        fits(r.RewardList, ok(api.post("rewards", {**body, **more})))
    for path, model in (
        ("/v1/models", s.ModelList),
        ("/v1/models/toy", s.ModelCard),
        ("/v1/strategies", s.StrategyList),
        ("/health", s.Health),
        ("/healthz", s.Health),
        ("/readyz", s.Readiness),
    ):
        fits(model, ok(api.http.get(path)))
    wrong = api.post("completions", {"prompt": 1})
    refused(wrong, 400)
    fits(s.ErrorAnswer, wrong.json())


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_schemathesis_finds_nothing(api: Api, document: Json, method: str, path: str) -> None:
    """Bodies that fit and bodies that do not, made from the document.

    That every body that fits is honoured is not asked: a reward may not be loaded, a prompt too long, and so on.
    """
    schema = schemathesis.openapi.from_dict(document)
    cases = schema[path][method].as_strategy() | schema[path][method].as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=cases)
    def check(case: schemathesis.Case[Any]) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            del case.body["model"]  # nearly every name is another model's
        streams = isinstance(case.body, dict) and case.body.get("stream") is True
        # A stream is described by the chunk that an event's data is, as OpenAI does it; the check reads whole events.
        others = [response_schema_conformance] if streams else []
        answer = case.call_and_validate(base_url=api.url, excluded_checks=[positive_data_acceptance, *others])
        if answer.status_code == 400 and isinstance(case.body, dict):
            assert answer.json()["error"]["param"] is not None

    check()
