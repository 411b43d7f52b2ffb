"""What those who run a server ask it, and what any client may ask of any path."""

from collections.abc import Iterator

import pytest

from server.loading import toy
from tests.support.serving import Api, Json, ok, refused, serving

READABLE = [
    "/health", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/toy", "/v1/strategies",
    "/openapi.json", "/docs",
]  # fmt: skip


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def test_health_has_vllms_name_too(api: Api) -> None:
    assert api.http.get("/health").json() == api.http.get("/healthz").json() == {"engines": {}}


@pytest.mark.parametrize("path", READABLE)
def test_what_can_be_read_has_a_head(api: Api, path: str) -> None:
    whole, head = api.http.get(path), api.http.head(path)
    assert (whole.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == whole.headers["content-type"]
    if path != "/metrics":  # it counts between the two
        assert head.headers["content-length"] == str(len(whole.content))
    assert api.http.head("/v1/models/gpt").status_code == 404


@pytest.mark.parametrize("path", ["completions", "chat/completions", "rewards"])
def test_an_empty_model_is_the_one_that_is_served(api: Api, path: str) -> None:
    body: Json = {"prompt": "good"} if path == "completions" else {"messages": [{"role": "user", "content": "good"}]}
    body |= {"completions": ["bad"]} if path == "rewards" else {}
    assert ok(api.post(path, {**body, "model": ""}))["model"] == "toy"
    assert refused(api.post(path, {**body, "model": " "}), 404)["code"] == "model_not_found"
