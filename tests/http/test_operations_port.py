"""What is served to whom: documentation and metrics closed or on another port, and pages of other origins."""

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from server.loading import toy
from server.settings import ServerSettings
from tests.http.test_auth import add, bearer
from tests.support.fakes import HeldPolicy, world
from tests.support.serving import Api, Json, meanwhile, ok, refused, serving, until

DOCS = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")
HEALTH = ("/healthz", "/readyz", "/health", "/ping", "/version")
PAGE = "https://chat.example.com"


def statuses(http: httpx.Client, paths: tuple[str, ...]) -> set[int]:
    return {http.get(path).status_code for path in paths}


def test_all_are_open_unless_set(api: Api) -> None:
    assert statuses(api.http, (*DOCS, *HEALTH, "/metrics")) == {200}


def test_docs_and_metrics_can_be_closed() -> None:
    with serving(toy(), docs=False, metrics=False) as api:
        assert statuses(api.http, (*DOCS, "/metrics")) == {404}
        assert refused(api.http.get("/metrics"), 404)["type"] == "invalid_request_error"
        assert statuses(api.http, HEALTH) == {200}
        ok(api.post("completions", {"prompt": "good"}))


def test_docs_and_metrics_can_be_moved_to_another_port() -> None:
    with serving(toy(), operations_port=0) as api:
        assert api.server.operations is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{api.server.operations.port}") as operations:
            assert statuses(api.http, (*DOCS, "/metrics")) == {404}
            assert statuses(api.http, HEALTH) == {200}
            assert statuses(operations, (*DOCS, *HEALTH, "/metrics")) == {200}
            ok(api.post("completions", {"prompt": "good"}))
            api.rest()
            assert 'decant_request_duration_seconds_count{outcome="ok",strategy="sample"} 1.0' in (
                operations.get("/metrics").text
            )
            assert operations.post("/v1/completions", json={"prompt": "good"}).status_code == 404
        address = f"http://127.0.0.1:{api.server.operations.port}/healthz"
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_docs_can_be_closed_on_the_other_port_too() -> None:
    with serving(toy(), operations_port=0, docs=False) as api:
        assert api.server.operations is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{api.server.operations.port}") as operations:
            assert statuses(operations, DOCS) == {404}
            assert statuses(operations, ("/metrics",)) == {200}


def test_the_other_port_answers_while_the_server_drains() -> None:
    policy = HeldPolicy()
    with serving(world(policy), operations_port=0) as api:
        assert api.server.operations is not None
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{api.server.operations.port}") as operations,
            meanwhile(lambda: api.post("completions", {"prompt": "good"})) as held,
        ):
            until(lambda: policy.opened > 0)
            api.server.should_exit = True
            until(lambda: operations.get("/readyz").status_code == 503)
            assert "decant_requests_in_flight" in operations.get("/metrics").text
            policy.released.set()
            ok(held.result())


def test_both_ports_must_differ() -> None:
    with pytest.raises(ValidationError, match="operations_port: 8000 is the port of the API"):
        ServerSettings(operations_port=8000)
    ServerSettings(operations_port=8000, host="192.0.2.1", operations_host="127.0.0.1")


def preflight(api: Api, origin: str = PAGE) -> httpx.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    return api.http.options("/v1/chat/completions", headers={"Origin": origin, **asked})


def test_no_page_of_another_origin_may_ask_unless_set(api: Api) -> None:
    assert preflight(api).status_code == 405
    answer = api.post("completions", {"prompt": "good"}, headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_pages_of_named_origins_may_ask_with_a_key(tmp_path: Path) -> None:
    ann = bearer(add(tmp_path / "keys"))
    with serving(toy(), api_keys_file=tmp_path / "keys", cors_origins=[PAGE]) as api:
        allowed = preflight(api)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert {"authorization", "content-type"} <= set(allowed.headers["access-control-allow-headers"].split(", "))
        body: Json = {"prompt": "good"}
        for stream in (False, True):
            answer = api.post("completions", {**body, "stream": stream}, headers={"Origin": PAGE, **ann})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        denied = api.post("completions", body, headers={"Origin": PAGE})
        assert (denied.status_code, denied.headers["access-control-allow-origin"]) == (401, PAGE)
        assert "access-control-allow-credentials" not in denied.headers
        other = preflight(api, "https://evil.example.com")
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("origin", ["chat.example.com", "https://chat.example.com/", "", "null"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        ServerSettings(cors_origins=[origin])
