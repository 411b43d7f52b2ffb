"""Requests that are refused whatever their fields say: no JSON, another model, too long, another path."""

import logging
import socket
from collections.abc import Iterator

import pytest

from server.loading import toy
from server.settings import BodyLimits
from tests.support.serving import MINIMAL, Api, ok, refused, serving, until


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy(), max_prompts=4) as api:
        yield api


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"prompt=good", b'{"prompt": "\xff"}', b'{"prompt": "good", "temperature": NaN}', b"[" * 10_000,
     b'{"prompt": "good", "logit_bias": {"1": -Infinity}}', b'{"prompt": "good", "n": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_body_that_is_not_json_is_a_400(api: Api, body: bytes) -> None:
    error = refused(api.post("completions", body), 400)
    assert error["message"].startswith("The body is not JSON: ")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"good"', b"5"])
def test_a_body_that_is_no_object_is_a_400(api: Api, body: bytes) -> None:
    error = refused(api.post("completions", body), 400)
    assert (error["message"], error["param"]) == ("The body: Input should be a JSON object.", None)


@pytest.mark.parametrize("path", MINIMAL)
def test_another_model_is_a_404(api: Api, path: str) -> None:
    error = refused(api.post(path, {**MINIMAL[path], "model": "gpt"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "'toy'" in error["message"]
    ok(api.post(path, {**MINIMAL[path], "model": "toy"}))
    assert refused(api.http.get("/v1/models/gpt"), 404) == error


def test_a_body_larger_than_any_prompt_is_a_413(api: Api) -> None:
    limit = BodyLimits().max_bytes
    error = refused(api.post("completions", b" " * (limit + 1)), 413)
    assert str(limit) in error["message"]


def test_other_paths_and_methods_are_errors_of_the_same_shape(api: Api) -> None:
    assert "/zip" in refused(api.http.post("/zip", json={}), 404)["message"]
    wrong = api.http.get("/v1/completions")
    refused(wrong, 405)
    assert wrong.headers["allow"] == "POST"
    assert set(api.http.post("/v1/models").headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["responses", "embeddings", "audio/speech", "zip"])
def test_an_endpoint_that_is_not_served_is_no_404_which_routers_take_for_a_sick_server(api: Api, path: str) -> None:
    for answer in (api.post(path, {"model": "toy"}), api.http.get(f"/v1/{path}")):
        error = refused(answer, 400)
        assert (error["code"], error["param"]) == ("unsupported_endpoint", None)
        assert f"/v1/{path} is not served here" in error["message"]
        assert "/v1/chat/completions, /v1/completions, /v1/models, /v1/models/{name}, " in error["message"]


def test_a_client_that_leaves_while_it_speaks_is_no_failure(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", api.http.base_url.port or 0)) as peer:
        peer.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        peer.sendall(b"Content-Length: 100\r\n\r\n{")
        until(lambda: len(api.server.server_state.tasks) > 0)
    until(lambda: not api.server.server_state.tasks)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []
