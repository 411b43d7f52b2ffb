"""A server that stops answers what it accepted, and does stop."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import Message
from typer.testing import CliRunner

from decoders import Sample
from decoders.core import Prompt, Sampling
from decoders.errors import EngineDead
from server import loading
from server.cli import app
from server.http.answer import AnswerSpec
from server.http.openai_format import CompletionFormat
from server.http.response_writers import AnswerWriter
from server.http.run_response import RunResponse
from server.runtime.request_runner import Job, RequestRunner
from server.runtime.state import ServerState
from server.settings import ServerSettings
from tests.support.fakes import FailingPolicy, FakeEngine, HeldPolicy, world
from tests.support.serving import PATIENCE, meanwhile, ok, refused, serving, until

BODY = {"prompt": "good"}


def test_while_it_drains_a_server_refuses_what_is_new_and_ends_what_it_accepted() -> None:
    policy = HeldPolicy()
    with serving(world(policy), max_sequences=1) as api, meanwhile(lambda: api.post("completions", BODY)) as working:
        until(lambda: policy.working == 1)
        with meanwhile(lambda: api.post("completions", BODY)) as waiting:
            until(lambda: api.metric("decant_requests_queued") == 1)
            api.server.should_exit = True
            until(lambda: api.http.get("/readyz").status_code == 503)
            assert api.http.get("/readyz").json() == {"ready": False, "draining": True, "engines": {}}
            assert api.http.get("/healthz").status_code == 200
            response = api.post("completions", BODY)
            assert "shutting down" in refused(response, 503)["message"]
            assert response.headers["retry-after"]
            policy.released.set()
        ok(working.result())
        ok(waiting.result())


@pytest.mark.parametrize("stream", [False, True])
def test_past_its_time_a_drain_ends_requests_with_an_answer(stream: bool) -> None:
    policy = HeldPolicy()
    with serving(world(policy), drain_timeout_s=0.2) as api:
        with meanwhile(lambda: api.post("completions", {**BODY, "stream": stream})) as response:
            until(lambda: policy.working == 1)
            api.server.should_exit = True
        assert "shut down" in refused(response.result(), 503)["message"]
        assert policy.working == 0


def test_a_client_that_does_not_read_does_not_keep_a_server_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.runtime.running.LAST_WORDS", 0.1)

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(_: Message) -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        state = ServerState(world())
        prompt, strategy = Prompt((1,), "good"), Sample()
        spec = AnswerSpec(CompletionFormat(echo=False, top=None), "toy", [prompt], 1, "sample", strategy, reports=False)
        runner = RequestRunner(state, Job(strategy, "sample", [(prompt, Sampling())], None))
        answer = RunResponse(runner, lambda send: AnswerWriter(send, spec))
        task = asyncio.create_task(answer({"type": "http"}, receive, send))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(state.running.drain(state.admission, 0.1), PATIENCE)
        assert not task.done()
        task.cancel()
        await asyncio.wait((task,))

    asyncio.run(test())


def test_a_server_whose_engine_dies_stops_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.uvicorn_server.WATCH", 0.05)
    from server.http.uvicorn_server import serve

    engine = FakeEngine()

    async def test() -> bool:
        return await serve(
            world(engines={"policy": engine}), ServerSettings(port=0), lambda _: setattr(engine, "errored", True)
        )

    assert asyncio.run(asyncio.wait_for(test(), PATIENCE)) is False


SLOW = """
from server import loading
from tests.support.fakes import HeldPolicy, world
policy = HeldPolicy()
loaded = world(policy)
loading.toy = lambda settings=None: loaded
import threading, sys
threading.Thread(target=lambda: (sys.stdin.readline(), policy.released.set()), daemon=True).start()
from server.cli import main
main()
"""  # a server whose policy waits for a line


@contextmanager
def process(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process, with its address."""
    command = [sys.executable, *arguments, "serve", "--toy", "--port", "0"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stderr is not None
            for line in child.stderr:
                if match := re.search(r"http://[\d.]+:\d+", line):
                    break
            else:
                raise AssertionError("it does not start")
            yield child, match[0]
        finally:
            child.kill()


def in_flight(url: str) -> bool:
    return 'decant_requests_in_flight{strategy="sample"} 1.0' in httpx.get(f"{url}/metrics").text


def test_on_sigterm_the_request_under_way_is_answered_and_the_exit_is_clean() -> None:
    with process("-c", SLOW) as (child, url):
        with meanwhile(lambda: httpx.post(f"{url}/v1/completions", json=BODY, timeout=PATIENCE)) as response:
            until(lambda: in_flight(url))
            child.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
            refused(httpx.post(f"{url}/v1/completions", json=BODY), 503)
            assert not response.done()
            child.communicate("go\n", timeout=PATIENCE)
        ok(response.result())
        assert child.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(number: signal.Signals) -> None:
    with process("-m", "server.cli") as (child, url):
        assert httpx.get(f"{url}/readyz").json()["ready"] is True
        ok(httpx.post(f"{url}/v1/completions", json=BODY))
        child.send_signal(number)
        child.communicate(timeout=PATIENCE)
        assert child.returncode == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/readyz")


def test_a_server_whose_engine_dies_while_it_starts_says_so_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    async def close() -> None:
        closed.append("closed")

    loaded = world(FailingPolicy(EngineDead("The policy engine has died.")), engines={"policy": FakeEngine()})
    loaded.closers.append(close)
    monkeypatch.setattr(loading, "toy", lambda _: loaded)
    before = signal.getsignal(signal.SIGTERM)
    try:
        result = CliRunner().invoke(app, ["serve", "--toy", "--port", "0"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 1
    assert "do not work: The policy engine has died." in result.stderr
    assert "Traceback" not in result.output
    assert closed
