"""POST /tokenize and /detokenize, /version and /ping: what clients of vLLM lean on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.installed import VERSION
from server.loading import toy
from tests.http.test_auth import add, bearer
from tests.support.fakes import FakeEngine, world
from tests.support.serving import Api, Json, ok, refused, serving

CHAT: Json = {"messages": [{"role": "user", "content": "a"}]}


def post(api: Api, path: str, body: Json, headers: dict[str, str] | None = None) -> Json:
    return ok(api.http.post(path, json=body, headers=headers or {}))


def test_a_text_is_tokens_and_back(api: Api) -> None:
    made = post(api, "/tokenize", {"prompt": "good odd", "return_token_strs": True})
    assert made == {"count": 2, "max_model_len": 64, "tokens": made["tokens"], "token_strs": [" good", " odd"]}
    assert post(api, "/detokenize", {"tokens": made["tokens"]}) == {"prompt": " good odd"}
    assert post(api, "/tokenize", {"prompt": "good", "model": "toy"})["token_strs"] is None
    assert post(api, "/tokenize", {"prompt": ""})["count"] == 0


def test_the_tokens_are_those_of_the_prompt(api: Api) -> None:
    chat = {"messages": [{"role": "user", "content": "good bad"}]}
    count = post(api, "/tokenize", chat)["count"]
    assert api.chat("good bad", max_tokens=1)["usage"]["prompt_tokens"] == count == 2


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {**CHAT, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {**CHAT, "tools": [{}]}, "tools.0.type"),
        ("/detokenize", {"tokens": [0, 5]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {}, "tokens"),
    ],
)
def test_what_cannot_be_read_is_refused(api: Api, path: str, body: Json, field: str) -> None:
    assert refused(api.http.post(path, json=body), 400)["param"] == field


def test_another_model_is_not_tokenized_for(api: Api) -> None:
    assert refused(api.http.post("/tokenize", json={"prompt": "a", "model": "gpt"}), 404)["code"] == "model_not_found"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, str]]:
    file: Path = tmp_path_factory.mktemp("keys") / "keys"
    key = add(file)
    with serving(toy(), api_keys_file=file) as api:
        yield api, key


def test_keys_guard_them(keyed: tuple[Api, str]) -> None:
    api, key = keyed
    for path, body in (("/tokenize", {"prompt": "good"}), ("/detokenize", {"tokens": [1]})):
        refused(api.http.post(path, json=body), 401)
        post(api, path, body, bearer(key))
    assert api.http.get("/version").status_code == api.http.get("/ping").status_code == 200


def test_versions_are_shown(api: Api) -> None:
    versions = ok(api.http.get("/version"))
    assert versions["version"] == VERSION
    assert versions["engine"] is None or versions["engine"].startswith("vllm")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_ping_is_answered_while_the_engines_live(method: str) -> None:
    engine = FakeEngine()
    with serving(world(engines={"policy": engine})) as api:
        assert (api.http.request(method, "/ping").status_code, api.http.request(method, "/ping").content) == (200, b"")
        engine.errored = True
        assert api.http.request(method, "/ping").status_code == 503
