"""How an answer was chosen, for clients that drop `decoding`: by headers, a comment, and GET /v1/reports."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.loading import toy
from server.runtime import report_store
from tests.http.test_auth import add, bearer
from tests.support.serving import Api, Json, events, ok, refused, serving

BODY: Json = {"prompt": "good", "max_tokens": 4, "seed": 5}
BEST: Json = {**BODY, "n": 2, "decoding": {"strategy": "best_of_n", "n": 4, "return_kl": True}}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, str, str]]:
    file: Path = tmp_path_factory.mktemp("keys") / "keys"
    ann, bob = add(file, "ann"), add(file, "bob")
    with serving(toy(), api_keys_file=file) as api:
        yield api, ann, bob


def test_headers_say_what_the_report_says(api: Api) -> None:
    response = api.post("completions", BEST)
    report = ok(response)["decoding"]
    headers = response.headers
    assert headers["x-decant-strategy"] == "best_of_n"
    assert headers["x-decant-candidates"] == "4"
    assert int(headers["x-decant-generated-tokens"]) == report["cost"]["generated_tokens"]
    rewards = [result["rewards"]["default"] for result in report["results"]]
    assert [float(value) for value in headers["x-decant-reward"].split(", ")] == pytest.approx(rewards, rel=1e-5)
    nats = [result["kl"]["nats"] for result in report["results"]]
    assert [float(value) for value in headers["x-decant-kl"].split(", ")] == pytest.approx(nats, rel=1e-5)


def test_several_rewards_have_their_names(api: Api) -> None:
    decoding = {"strategy": "best_of_n", "n": 2, "reward": {"default": 1, "brevity": 2}}
    response = api.post("completions", {**BODY, "decoding": decoding})
    own = ok(response)["decoding"]["results"][0]["rewards"]
    assert response.headers["x-decant-reward"] == f"default={own['default']:.6g} brevity={own['brevity']:.6g}"


def test_a_plain_answer_has_headers_without_reward(api: Api) -> None:
    response = api.post("completions", BODY)
    assert "decoding" not in ok(response)
    assert response.headers["x-decant-strategy"] == "sample"
    assert not {"x-decant-reward", "x-decant-kl"} & {*response.headers}


def test_headers_stay_short_for_many_choices(api: Api) -> None:
    response = api.post("completions", {**BODY, "n": 33, "decoding": {"strategy": "best_of_n", "n": 40}})
    assert len(ok(response)["choices"]) == 33
    assert response.headers["x-decant-candidates"] == "40"
    assert "x-decant-reward" not in response.headers


def test_a_stream_ends_with_a_comment_that_says_the_same(api: Api) -> None:
    headers = api.post("completions", BEST).headers
    text = api.post("completions", {**BEST, "stream": True}).text
    chunks, done = events(text)
    assert done
    assert chunks[-1]["decoding"]["strategy"] == "best_of_n"
    [comment] = [line for line in text.splitlines() if line.startswith(": x-decant-")]
    values = dict(part.split(": ", 1) for part in comment.removeprefix(": ").split("; "))
    assert values == {name: value for name, value in headers.items() if name.startswith("x-decant-")}
    assert text.index(comment) < text.index("data: [DONE]")


def test_a_plain_stream_has_no_comment(api: Api) -> None:
    assert "x-decant" not in api.post("completions", {**BODY, "stream": True}).text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chat", [False, True])
def test_a_report_is_found_by_the_answers_id(api: Api, stream: bool, chat: bool) -> None:
    body: Json = {**BEST, "stream": stream}
    if chat:
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    response = api.post("chat/completions" if chat else "completions", body)
    answer = events(response.text)[0][-1] if stream else ok(response)
    kept = ok(api.http.get(f"/v1/reports/{answer['id']}"))
    assert kept == {
        "object": "report",
        "id": answer["id"],
        "created": answer["created"],
        "model": "toy",
        "decoding": answer["decoding"],
    }


def test_a_kept_report_has_no_candidates(api: Api) -> None:
    body = {**BODY, "decoding": {"strategy": "best_of_n", "n": 4, "return_candidates": True}}
    answer = ok(api.post("completions", body))
    assert len(answer["decoding"].pop("candidates")) == 4
    assert ok(api.http.get(f"/v1/reports/{answer['id']}"))["decoding"] == answer["decoding"]


def test_a_plain_answer_has_a_report_too(api: Api) -> None:
    answer = ok(api.post("completions", BODY))
    assert ok(api.http.get(f"/v1/reports/{answer['id']}"))["decoding"]["strategy"] == "sample"


def test_an_unknown_id_has_none(api: Api) -> None:
    error = refused(api.http.get("/v1/reports/cmpl-0"), 404)
    assert error["code"] == "report_not_found"


def test_a_key_sees_its_own_reports_alone(keyed: tuple[Api, str, str]) -> None:
    api, ann, bob = keyed
    answer = ok(api.post("completions", BEST, headers=bearer(ann)))
    where = f"/v1/reports/{answer['id']}"
    assert ok(api.http.get(where, headers=bearer(ann)))["id"] == answer["id"]
    assert refused(api.http.get(where, headers=bearer(bob)), 404)["code"] == "report_not_found"
    refused(api.http.get(where), 401)


def test_the_last_reports_of_each_key_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_store, "KEPT", 2)
    monkeypatch.setattr(report_store, "MAX_BYTES", 8)
    store = report_store.ReportStore()
    for name in ("a", "b", "c"):
        store.keep("ann", name, name.encode())
    store.keep("bob", "a", b"bob's")
    store.keep("bob", "b", b"far too long")
    assert [store.find("ann", name) for name in ("a", "b", "c")] == [None, b"b", b"c"]
    assert [store.find("bob", name) for name in ("a", "b")] == [b"bob's", None]
