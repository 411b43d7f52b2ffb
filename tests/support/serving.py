"""A real server on given models, and a client that checks its answers."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from server.http.uvicorn_server import Server
from server.loading import Loaded
from server.runtime.presets import Presets
from server.settings import ServerSettings

Json = dict[str, Any]
JSON = {"Content-Type": "application/json"}
PATIENCE = 30.0  # seconds: far more than any test needs, even on a busy machine


MINIMAL: dict[str, Json] = {
    "completions": {"prompt": "good"},
    "chat/completions": {"messages": [{"role": "user", "content": "good"}]},
    "rewards": {"prompt": "good", "completions": ["bad"]},
}
"""The least body that each endpoint answers, by the path under /v1/."""


class Api:
    """A client of a running server."""

    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server = server
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, headers=JSON)

    def post(self, path: str, body: object, **kwargs: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(f"/v1/{path}", content=content, **kwargs)

    def complete(self, prompt: object = "good", **fields: Any) -> Json:
        """Return the body of a completion that succeeds."""
        return ok(self.post("completions", {"prompt": prompt, **fields}))

    def chat(self, content: object = "good", **fields: Any) -> Json:
        return ok(self.post("chat/completions", {"messages": [{"role": "user", "content": content}], **fields}))

    def rest(self) -> None:
        """Wait until no request is running: one still counts for a moment after its answer."""
        until(lambda: self.server.state.running.idle)

    def metrics(self) -> list[Sample]:
        """Return every sample of /metrics."""
        families = text_string_to_metric_families(self.http.get("/metrics").text)
        return [sample for family in families for sample in family.samples]

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels; 0 if it has none yet."""
        own = [sample for sample in self.metrics() if sample.name == name]
        return sum(s.value for s in own if all(s.labels.get(k) == v for k, v in labels.items()))

    def count(self, histogram: str, **labels: str) -> float:
        """How many values one of Decant's histograms has."""
        return self.metric(f"decant_{histogram}_count", **labels)

    def total(self, histogram: str, **labels: str) -> float:
        """The sum of a histogram's values."""
        return self.metric(f"decant_{histogram}_sum", **labels)


@contextmanager
def serving(loaded: Loaded, presets: Presets | None = None, **settings: Any) -> Iterator[Api]:
    """Run a real server on a free port of the loopback, in a thread; yield its client."""
    url: Future[str] = Future()
    server = Server(loaded, ServerSettings(port=0, **settings), url.set_result, presets)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    api = Api(url.result(PATIENCE), server)
    try:
        yield api
    finally:
        api.http.close()
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"


@contextmanager
def meanwhile(call: Callable[[], httpx.Response]) -> Iterator["Future[httpx.Response]"]:
    """Run a call in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


@contextmanager
def speaking(api: Api, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Iterator[None]:
    """Send a request and read no answer; disconnect at the end of the block."""
    content = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", api.http.base_url.port or 0)) as peer:
        sent = {**JSON, "Host": "localhost", "Content-Length": str(len(content)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        peer.sendall(f"POST /v1/{path} HTTP/1.1\r\n{lines}\r\n".encode())
        peer.sendall(content)
        yield


def ok(response: httpx.Response) -> Json:
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


def texts(completion: Json) -> list[str]:
    """The texts of a completion's choices."""
    return [choice["text"] for choice in completion["choices"]]


def refused(response: httpx.Response, status: int) -> Json:
    """Check that a response is an error in OpenAI's format; return the error."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    error: Json = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    return error


def events(text: str) -> tuple[list[Json], list[str]]:
    """Check that a stream is complete; return its chunks and its comments."""
    parts = text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(part.removeprefix("data: ")) for part in parts[:-2] if part.startswith("data: ")]
    comments = [part for part in parts[:-2] if part.startswith(": ")]
    assert len(chunks) + len(comments) == len(parts) - 2
    return chunks, comments


def until(holds: Callable[[], bool]) -> None:
    """Wait until `holds()` is true."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.01)
