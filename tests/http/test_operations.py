"""Health, readiness and models; HEAD requests."""

import pytest

from tests.support.serving import MINIMAL, Api, ok, refused

READABLE = [
    "/health", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/toy", "/v1/strategies", "/version",
    "/openapi.json", "/docs",
]  # fmt: skip


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


@pytest.mark.parametrize("path", MINIMAL)
def test_an_empty_model_is_the_one_that_is_served(api: Api, path: str) -> None:
    assert ok(api.post(path, {**MINIMAL[path], "model": ""}))["model"] == "toy"
    assert refused(api.post(path, {**MINIMAL[path], "model": " "}), 404)["code"] == "model_not_found"
