"""Every response has the request's id, taken from the client or made, and answers' own ids have it too."""

import re
import socket
from pathlib import Path

import httpx
import pytest

from server.loading import toy
from tests.support.fakes import FailingPolicy, raising, world
from tests.support.serving import MINIMAL, Api, events, ok, serving

ID = "x-request-id"
MADE = re.compile(r"[0-9a-f]{32}")
GIVEN = "trace:7f3a.B-12_x=+@"


def each_answer(api: Api, headers: dict[str, str]) -> dict[str, httpx.Response]:
    """Ask for every kind of answer that a healthy server has, by the name of the kind."""
    best = {**MINIMAL["completions"], "decoding": {"strategy": "best_of_n", "n": 2}}
    answers = {path: api.post(path, body, headers=headers) for path, body in MINIMAL.items()}
    answers |= {
        f"{path} as a stream": api.post(path, {**MINIMAL[path], "stream": True}, headers=headers)
        for path in ("completions", "chat/completions")
    }
    answers["best of n"] = api.post("completions", best, headers=headers)
    for path in ("/healthz", "/readyz", "/metrics", "/version", "/openapi.json", "/docs", "/v1/models", "/ping"):
        answers[path] = api.http.get(path, headers=headers)
    answers["400"] = api.post("completions", {"prompt": 7, "nonsense": 1}, headers=headers)
    answers["400, not JSON"] = api.post("completions", b"{", headers=headers)
    answers["400, no such endpoint"] = api.http.get("/v1/nowhere", headers=headers)
    answers["404"] = api.http.get("/nowhere", headers=headers)
    answers["404 of a report"] = api.http.get("/v1/reports/none", headers=headers)
    answers["404 of a model"] = api.post("completions", {**best, "model": "another"}, headers=headers)
    answers["405"] = api.http.delete("/healthz", headers=headers)
    answers["413"] = api.post("completions", b" " * (2**24 + 1), headers=headers)
    answers["415"] = api.http.post("/v1/completions", content=b"{}", headers={**headers, "content-type": "text/plain"})
    return answers


def test_every_response_has_the_id_that_the_client_sent(api: Api) -> None:
    answers = each_answer(api, {ID: GIVEN})
    assert [name for name, answer in answers.items() if answer.headers.get_list(ID) != [GIVEN]] == []
    assert {answer.status_code for answer in answers.values()} == {200, 400, 404, 405, 413, 415}


def test_every_response_has_an_id_of_its_own_where_the_client_sent_none(api: Api) -> None:
    answers = each_answer(api, {})
    ids = [answer.headers[ID] for answer in answers.values()]
    assert all(MADE.fullmatch(one) for one in ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("sent", ["", "a" * 129, "a b", "a/b", "a;b", 'a"b', "é".encode("latin-1"), "a\tb"], ids=repr)
def test_an_id_that_could_forge_a_line_or_a_path_is_replaced(api: Api, sent: str | bytes) -> None:
    answer = api.http.get("/healthz", headers={ID.encode(): sent if isinstance(sent, bytes) else sent.encode()})
    assert MADE.fullmatch(answer.headers[ID])


def test_the_longest_id_is_taken(api: Api) -> None:
    assert api.http.get("/healthz", headers={ID: "a" * 128}).headers[ID] == "a" * 128


def test_a_request_without_a_known_key_has_an_id(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"ann:{'0' * 64}\n")
    with serving(toy(), api_keys_file=file) as keyed:
        answer = keyed.post("completions", MINIMAL["completions"], headers={ID: GIVEN})
    assert (answer.status_code, answer.headers[ID]) == (401, GIVEN)


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_has_an_id(stream: bool) -> None:
    body = {**MINIMAL["completions"], "stream": stream}
    with serving(world(FailingPolicy(RuntimeError("a bug")))) as api:
        answer = api.post("completions", body, headers={ID: GIVEN})
        assert (answer.status_code, answer.headers[ID]) == (500, GIVEN)
    with serving(world(rewards={"default": raising(ValueError("no"))})) as api:
        answer = api.post("completions", {**body, "decoding": {"strategy": "best_of_n"}}, headers={ID: GIVEN})
        assert (answer.status_code, answer.headers[ID]) == (502, GIVEN)


def test_a_bug_outside_of_the_routes_has_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(toy()) as api:
        monkeypatch.setattr(api.server.state.loaded, "up", lambda: 1 / 0)
        answer = api.http.get("/healthz", headers={ID: GIVEN})
        assert (answer.status_code, answer.headers[ID]) == (500, GIVEN)


def test_requests_of_one_connection_have_each_their_own_id(api: Api) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: toy\r\n%s\r\n"
    with socket.create_connection(("127.0.0.1", api.http.base_url.port or 0)) as peer:
        peer.sendall(request % b"X-Request-Id: first\r\n" + request % b"Connection: close\r\n")
        received = b"".join(iter(lambda: peer.recv(2**16), b"")).decode()
    first, second = re.findall(r"x-request-id: (\S+)", received)
    assert first == "first"
    assert MADE.fullmatch(second)


def test_the_id_of_an_answer_has_that_of_the_request(api: Api) -> None:
    sent = {ID: "mine"}
    assert ok(api.post("completions", MINIMAL["completions"], headers=sent))["id"] == "cmpl-mine"
    assert ok(api.post("chat/completions", MINIMAL["chat/completions"], headers=sent))["id"] == "chatcmpl-mine"
    chunks, _ = events(api.post("completions", {**MINIMAL["completions"], "stream": True}, headers=sent).text)
    assert {chunk["id"] for chunk in chunks} == {"cmpl-mine"}
    assert ok(api.http.post("/score", json={"text_1": "good", "text_2": "bad"}, headers=sent))["id"] == "score-mine"
    assert ok(api.http.get("/v1/reports/cmpl-mine"))["id"] == "cmpl-mine"
    made = api.post("completions", MINIMAL["completions"])
    assert ok(made)["id"] == f"cmpl-{made.headers[ID]}"
