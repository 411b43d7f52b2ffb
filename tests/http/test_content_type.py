"""The Content-Type of bodies: what any web page may send to any server is refused."""

import pytest

from tests.support.serving import MINIMAL, Api, ok, refused

# What browsers send without asking the server first (Fetch, "CORS-safelisted request-header"), and no type at all.
SIMPLE = [
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "text/plain; application/json",
    "application/jsonp",
    "",
]
PATHS = [
    *(f"/v1/{path}" for path in MINIMAL),
    *("/tokenize", "/detokenize", "/classify", "/pooling", "/score", "/v1/score"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", SIMPLE)
def test_what_any_web_page_may_send_is_refused(api: Api, path: str, kind: str) -> None:
    error = refused(api.http.post(path, content=b"{}", headers={"Content-Type": kind}), 415)
    assert (error["code"], error["param"]) == ("unsupported_media_type", None)
    assert "send application/json" in error["message"]


@pytest.mark.parametrize("path", MINIMAL)
@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"])
def test_json_by_all_its_names_is_read(api: Api, path: str, kind: str) -> None:
    ok(api.post(path, MINIMAL[path], headers={"Content-Type": kind}))


def test_a_page_of_another_origin_is_not_allowed_to_send_json(api: Api) -> None:
    asked = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"}
    answer = api.http.options("/v1/completions", headers={**asked, "Access-Control-Request-Headers": "content-type"})
    assert not answer.is_success
    assert "access-control-allow-origin" not in answer.headers
