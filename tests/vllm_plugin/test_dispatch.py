"""Which requests Decant answers inside vLLM's app, and that all others reach vLLM as they came."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from decoders import BestOfN
from server.http.app import create_app
from server.loading import toy
from server.runtime.presets import Presets
from server.vllm_plugin.dispatch import Dispatch, Target
from tests.support.serving import Json, ok, refused

BEST = {"strategy": "best_of_n", "n": 3}
CARD = {"id": "toy", "object": "model", "permission": []}


class FakeVllm:
    """An app that keeps what reaches it, and answers as vLLM's list of models does."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.messages: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.messages = [await receive()]
        while self.messages[-1].get("more_body"):
            self.messages.append(await receive())
        body = json.dumps({"object": "list", "data": [CARD]}).encode()
        status = 200 if scope["path"] != "/v1/models" or not dict(scope["headers"]).get(b"broken") else 503
        headers = [(b"content-length", str(len(body)).encode()), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def target(presets: Presets | None = None, *, keyed: bool = False) -> Target:
    made = Target()
    made.serve(create_app(toy(), None, presets or Presets({"careful": BestOfN(n=2)})), keyed=keyed)
    return made


def ask(vllm: FakeVllm, method: str, path: str, aim: Target | None = None, **request: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(Dispatch(vllm, aim or target()))
        async with httpx.AsyncClient(transport=transport, base_url="http://decant") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def post(
    vllm: FakeVllm, body: Json, aim: Target | None = None, path: str = "completions", **more: Any
) -> httpx.Response:
    return ask(vllm, "POST", f"/v1/{path}", aim, json={"prompt": "good", "max_tokens": 3, **body}, **more)


VLLMS: list[bytes] = [
    b'{"prompt": "good", "max_tokens": 3}',
    b'  {"prompt":"good",\n "decoding": null, "unheard_of": [1, {}]}',
    b'{"model": "toy", "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}',
    b'{"model": "toy:unknown", "prompt": "decoding"}',
    b'{"model": 3, "prompt": "good"}',
    b'["decoding"]',
    b'{"prompt": ',
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize("body", VLLMS)
def test_what_asks_for_no_strategy_reaches_vllm_byte_for_byte(path: str, body: bytes) -> None:
    vllm = FakeVllm()
    headers = {"content-type": "application/json", "x-request-id": "7"}
    answer = ask(vllm, "POST", f"/v1/{path}", content=body, headers=headers)
    assert answer.headers["x-own"] == "1"
    assert vllm.body == body
    assert dict(vllm.scopes[0]["headers"])[b"x-request-id"] == b"7"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/tokenize"),
        ("GET", "/v1/completions"),
    ],
)
def test_other_paths_are_vllms_even_with_decoding(method: str, path: str) -> None:
    vllm = FakeVllm()
    ask(vllm, method, path, json={"decoding": BEST})
    assert [scope["path"] for scope in vllm.scopes] == [path]


def test_a_body_in_parts_is_put_together_once_and_handed_on_in_its_parts() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b'{"prompt": "go', b'od", "max_', b'tokens": 3}'):
            yield part

    vllm = FakeVllm()
    ask(vllm, "POST", "/v1/completions", content=parts())
    assert vllm.body == b'{"prompt": "good", "max_tokens": 3}'


@pytest.mark.parametrize(
    ("body", "headers"),
    [({"decoding": BEST}, {}), ({"model": "toy:careful"}, {}), ({}, {"x-decant-preset": "careful"})],
)
def test_what_asks_for_a_strategy_is_decants(body: Json, headers: dict[str, str]) -> None:
    vllm = FakeVllm()
    answer = post(vllm, body, headers=headers)
    assert ok(answer)["decoding"]["strategy"] == "best_of_n"
    assert vllm.scopes == []


MANY = "[" + ",".join(["[]"] * 40_000) + "]"  # over the limit of lists


@pytest.mark.parametrize(
    "body", [f'{{"zip": {MANY}}}', f'{{"zip": {MANY}, "prompt": "\\"decoding\\""}}', '{"a": 1, "a": 2}']
)
def test_what_decant_would_not_read_is_vllms(body: str) -> None:
    vllm = FakeVllm()
    ask(vllm, "POST", "/v1/completions", content=body.encode(), headers={"content-type": "application/json"})
    assert vllm.body == body.encode()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (f'{{"zip": {MANY}, "decoding": {{"strategy": "best_of_n"}}}}', {}),
        (f'{{"zip": {MANY}, "model": "toy:careful"}}', {}),
        (f'{{"zip": {MANY}}}', {"x-decant-preset": "careful"}),
        ('{"prompt": "good", "decoding": {"strategy": "best_of_n"}, "decoding": null}', {}),
    ],
)
def test_what_decant_would_not_read_is_refused_if_it_asks_for_a_strategy(body: str, headers: dict[str, str]) -> None:
    vllm = FakeVllm()
    sent = {"content-type": "application/json", **headers}
    refused(ask(vllm, "POST", "/v1/completions", content=body.encode(), headers=sent), 400)
    assert vllm.scopes == []


def test_a_long_body_that_asks_for_a_strategy_is_decants() -> None:
    vllm = FakeVllm()
    assert ok(post(vllm, {"prompt": "good", "decoding": BEST, "user": "a" * 10**5}))["decoding"]
    assert vllm.scopes == []


def test_a_default_preset_makes_all_requests_decants() -> None:
    vllm = FakeVllm()
    aim = target(Presets({"careful": BestOfN(n=2)}, "careful"))
    assert ok(post(vllm, {}, aim))["decoding"]["cost"]["candidates"] == 2
    assert vllm.scopes == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "field"),
    [
        ({"decoding": {"strategy": "swift"}}, {}, 400, "decoding.strategy"),
        ({}, {"x-decant-preset": "swift"}, 400, "X-Decant-Preset"),
        ({"decoding": BEST, "model": "adapter"}, {}, 404, "model"),
    ],
)
def test_a_wrong_wish_for_a_strategy_is_refused_and_not_dropped(
    body: Json, headers: dict[str, str], status: int, field: str
) -> None:
    vllm = FakeVllm()
    assert refused(post(vllm, body, headers=headers), status)["param"] == field
    assert vllm.scopes == []


def test_before_the_models_are_loaded_all_goes_to_vllm() -> None:
    vllm = FakeVllm()
    post(vllm, {"decoding": BEST}, Target())
    assert len(vllm.scopes) == 1


def test_decants_own_paths_are_its_own() -> None:
    vllm = FakeVllm()
    aim = target()
    assert "best_of_n" in ok(ask(vllm, "GET", "/v1/strategies", aim))["strategies"]
    assert ok(ask(vllm, "GET", "/readyz", aim))["ready"]
    made = ok(post(vllm, {"decoding": BEST}, aim))
    assert ok(ask(vllm, "GET", f"/v1/reports/{made['id']}", aim))["decoding"] == made["decoding"]
    scored = ask(vllm, "POST", "/v1/rewards", aim, json={"prompt": "good", "completions": ["bad"]})
    assert ok(scored)["object"] == "list"
    assert ok(ask(vllm, "GET", "/v1/models/toy:careful", aim))["parent"] == "toy"
    assert vllm.scopes == []


def test_a_root_path_before_the_paths_is_seen_through() -> None:
    async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "root_path": "/api", "path": "/api" + scope["path"]}
        await Dispatch(vllm, target())(scope, receive, send)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(prefixed), base_url="http://decant") as client:
            return await client.post("/v1/completions", json={"prompt": "good", "max_tokens": 3, "decoding": BEST})

    vllm = FakeVllm()
    assert ok(asyncio.run(send()))["decoding"]["strategy"] == "best_of_n"


def test_vllms_list_of_models_gets_a_card_for_each_preset() -> None:
    vllm = FakeVllm()
    answer = ask(vllm, "GET", "/v1/models")
    listed = ok(answer)
    assert listed["data"][0] == CARD
    assert [card["id"] for card in listed["data"]] == ["toy", "toy:careful"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-own"] == "1"
    broken = ask(vllm, "GET", "/v1/models", headers={"broken": "1"})
    assert (broken.status_code, broken.json()["data"]) == (503, [CARD])


def test_each_key_has_its_own_reports_where_vllm_asks_for_keys() -> None:
    vllm = FakeVllm()

    def find(aim: Target, keys: Iterable[str]) -> list[int]:
        made = ok(post(vllm, {"decoding": BEST}, aim, headers={"authorization": "Bearer one"}))
        paths = [(f"/v1/reports/{made['id']}", {"authorization": f"Bearer {key}"}) for key in keys]
        return [ask(vllm, "GET", path, aim, headers=headers).status_code for path, headers in paths]

    assert find(target(keyed=True), ("one", "two")) == [200, 404]
    assert find(target(keyed=False), ("one", "two")) == [200, 200]


def test_a_websocket_is_vllms() -> None:
    seen: list[str] = []

    async def vllm(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(Dispatch(vllm, target())({"type": "websocket", "path": "/v1/completions"}, nothing, nothing))
    assert seen == ["websocket"]
