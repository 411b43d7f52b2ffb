"""The policy's server as it may be: slow, refusing, broken, away."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from decoders.core import Prompt, Sampling
from decoders.errors import EngineFailed, InvalidRequest
from server.engines.guided.plan import Plan
from server.engines.policy_engines import PolicyEngines
from server.engines.remote import engine as remote
from server.engines.remote.engine import RemoteEngine
from server.engines.vllm_seam import model_text
from tests.engines.remote.conftest import Played

PROMPT = Prompt((5, 6), "ab")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_AFTER", 0.0)


def choice(index: int = 0, finish: str | None = "length", **more: Any) -> dict[str, Any]:
    return {"index": index, "text": "a", "token_ids": [7], "finish_reason": finish, "stop_reason": None, **more}


def whole(*choices: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"choices": choices})


def stream(*chunks: Any) -> httpx.Response:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return httpx.Response(200, text="".join([*lines, "data: [DONE]\n\n"]))


def draw(engine: RemoteEngine, n: int = 1, *, pieces: bool = False, **sampling: Any) -> list[Any]:
    async def collect() -> list[Any]:
        engines = PolicyEngines(engine, engine, Plan(), model_text(engine))
        draws = engines.draw(PROMPT, n, Sampling(max_tokens=1, **sampling), 3, pieces=pieces)
        return [item async for item in draws]

    return asyncio.run(collect())


def test_an_answer_has_tokens_and_ranked_log_probabilities(played: Played) -> None:
    top = {"token_id:7": -3.0, "token_id:9": -0.5, "token_id:8": -1.0}
    logprobs = {"token_logprobs": [-3.0], "top_logprobs": [top]}
    [(index, found)] = draw(played(lambda _: whole(choice(logprobs=logprobs))), logprobs=2)
    assert (index, found.tokens, found.text, found.finish) == (0, (7,), "a", "length")
    [entry] = found.logprobs
    assert (entry.token, entry.logprob, entry.rank) == (7, -3.0, None)  # it is not among the two likeliest
    assert [(other.token, other.rank) for other in entry.top] == [(9, 1), (8, 2), (7, None)]


def test_a_prompts_log_probabilities_are_not_streamed(played: Played) -> None:
    sent: list[Any] = []

    def server(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        known = [None, {"6": {"logprob": -2.0, "rank": 4, "decoded_token": "b"}}]
        return whole(choice(0, prompt_logprobs=known), choice(1))

    found = draw(played(server), 2, pieces=True, prompt_logprobs=0)
    assert not sent[0]["stream"]
    assert [index for index, _ in found] == [0, 1]
    first, second = found[0][1].prompt_logprobs
    assert first is None
    assert (second.token, second.logprob, second.rank) == (6, -2.0, 4)


def test_pieces_are_streamed(played: Played) -> None:
    chunks = [{"choices": [choice(finish=None)]}, {"choices": [], "usage": {}}, {"choices": [choice()]}]
    found = draw(played(lambda _: stream(*chunks)), pieces=True)
    assert [(piece.tokens, piece.finish) for _, piece in found] == [((7,), None), ((7,), "length")]


def test_several_samples_are_reported_whole_as_each_ends(played: Played) -> None:
    def known(logprob: float) -> dict[str, Any]:
        return {"token_logprobs": [logprob], "top_logprobs": [{"token_id:7": logprob}]}

    chunks = [
        choice(0, None, logprobs=known(-1.0)),
        choice(1, None, logprobs=known(-2.0)),
        choice(1, "stop", logprobs=known(-3.0), stop_reason="b"),
        choice(0, logprobs=known(-4.0)),
    ]
    found = draw(played(lambda _: stream(*({"choices": [one]} for one in chunks))), 2, logprobs=0)
    assert [(index, one.text, one.tokens, one.finish, one.stop) for index, one in found] == [
        (1, "aa", (7, 7), "stop", "b"),
        (0, "aa", (7, 7), "length", None),
    ]
    assert [[entry.logprob for entry in one.logprobs] for _, one in found] == [[-2.0, -3.0], [-1.0, -4.0]]


@pytest.mark.parametrize("first", [httpx.ConnectError("no"), httpx.ReadError("no"), 429, 502, 503])
def test_what_fails_before_its_first_byte_is_sent_once_more(played: Played, first: Exception | int) -> None:
    bodies: list[bytes] = []

    def server(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        if len(bodies) > 1:
            return whole(choice())
        if isinstance(first, Exception):
            raise first
        return httpx.Response(first)

    [(_, found)] = draw(played(server))
    assert found.tokens == (7,)
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (httpx.ConnectError("secret.host"), "cannot be reached: ConnectError"),
        (503, "status 503"),
        (500, "status 500"),
        (401, "status 401"),
        (404, "status 404"),
    ],
)
def test_what_fails_again_fails_the_request(played: Played, last: Exception | int, message: str) -> None:
    calls = 0

    def server(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if isinstance(last, Exception):
            raise last
        return httpx.Response(last, text="secret.host")

    with pytest.raises(EngineFailed, match=message) as raised:
        draw(played(server))
    assert "secret" not in str(raised.value)
    assert calls == (2 if isinstance(last, Exception) or last == 503 else 1)


def test_what_the_server_refuses_is_the_clients_to_mend(played: Played) -> None:
    error = {"message": "too many", "type": "BadRequestError", "param": "logprobs", "code": 400}
    with pytest.raises(InvalidRequest, match="too many") as raised:
        draw(played(lambda _: httpx.Response(400, json={"error": error})), logprobs=3)
    assert raised.value.field == "sampling.logprobs"


class Broken(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield f"data: {json.dumps({'choices': [choice(finish=None)]})}\n\n".encode()
        raise httpx.ReadError("gone")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: httpx.Response(200, stream=Broken()), "broke off"),
        (lambda: stream({"choices": [choice(finish=None)]}), "before its completions"),
        (lambda: stream({"error": {"message": "out of memory"}}), "out of memory"),
        (lambda: httpx.Response(200, text="data: {\n\n"), "broke off"),
        (lambda: stream({"choices": [{"index": 0, "text": "a"}]}), "without token ids"),
        (lambda: stream({"choices": [choice(logprobs={"token_logprobs": [-1], "top_logprobs": [{"a": -1}]})]}), "ids"),
    ],
)
def test_a_stream_that_breaks_fails_its_request(played: Played, answer: Any, message: str) -> None:
    with pytest.raises(EngineFailed, match=message):
        draw(played(lambda _: answer()), pieces=True)


def test_leaving_a_stream_closes_its_connection(played: Played) -> None:
    closed = asyncio.Event()

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield f"data: {json.dumps({'choices': [choice(finish=None)]})}\n\n".encode()

        async def aclose(self) -> None:
            closed.set()

    engine = played(lambda _: httpx.Response(200, stream=Endless()))

    async def leave() -> None:
        engines = PolicyEngines(engine, engine, Plan(), model_text(engine))
        draws = engines.draw_pieces(PROMPT, Sampling(), None)
        assert (await anext(draws)).tokens == (7,)
        await draws.aclose()
        await asyncio.wait_for(closed.wait(), 5)

    asyncio.run(leave())


def test_it_is_reachable_while_it_lists_its_models(played: Played) -> None:
    up = True

    def server(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/models"
        return httpx.Response(200 if up else 503)

    engine = played(server)
    assert asyncio.run(engine.reachable())
    up = False
    assert not asyncio.run(engine.reachable())


def test_segments_do_not_end_at_an_entropy_there(played: Played) -> None:
    engine = played(lambda _: whole())
    engines = PolicyEngines(engine, engine, Plan(), model_text(engine))
    assert engines.no_entropy_stop(Sampling()) == "another server runs it (policy.url)"
