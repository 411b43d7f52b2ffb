"""Traces of a real server, as a collector gets them: names, parents, attributes, failures, and none lost."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.support.collector import Collector, Span, collecting
from tests.support.command import ROOT, serve_toy
from tests.support.serving import PATIENCE

ID = "x-request-id"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
BEST = {"prompt": "swordfish good", "max_tokens": 4, "decoding": {"strategy": "best_of_n", "n": 3}}
FAILING = """
from server import loading
from tests.support.fakes import raising, world
loading.toy = lambda settings=None: world(rewards={"default": raising(ValueError("swordfish"))})
"""
REMOTE = """
import sys
from server import loading
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.remote_reward import RemoteReward
from server.settings import HttpReward
from tests.support.fakes import world
reward = RemoteReward(HttpReward(kind="http", url="URL", model="m", template="none", retries=1))
loading.toy = lambda settings=None: world(rewards={"far": Batcher(reward.score, 8, 60.0, scores_all=True)})
"""


def traced(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **more}


def below(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent == parent.id]


def test_a_search_is_one_trace_of_queue_draws_rewards_and_choice() -> None:
    with collecting() as collector, serve_toy(traced(collector)) as server:
        httpx.post(f"{server.url}/v1/completions", json=BEST, headers={ID: "mine", **GIVEN})
        server.stop()
        spans = collector.of("mine")
        root = spans[0]
        assert (root.trace, root.parent, root.name, root.kind) == (TRACE, PARENT, "POST /v1/completions", "SERVER")
        assert {span.name: span.parent for span in spans[1:]} == dict.fromkeys(
            ("queue", "generate", "score default", "select"), root.id
        )
        assert [span.name for span in spans].count("score default") == 3
        assert all(root.start <= span.start <= span.end <= root.end for span in spans)
        assert not any(span.failed or span.events for span in spans)
        own = root.attributes
        assert own["gen_ai.operation.name"] == "text_completion"
        assert own["gen_ai.request.model"] == "toy"
        assert own["gen_ai.response.id"] == "cmpl-mine"
        assert own["gen_ai.usage.input_tokens"] == 2
        assert own["gen_ai.usage.output_tokens"] <= own["decant.generated_tokens"] <= 12
        assert (own["decant.strategy"], own["decant.candidates"]) == ("best_of_n", 3)
        assert (own["http.request.method"], own["http.response.status_code"]) == ("POST", 200)
        [drawn] = [span for span in spans if span.name == "generate"]
        assert drawn.attributes["gen_ai.request.choice.count"] == 3
        assert drawn.attributes["gen_ai.usage.output_tokens"] == own["decant.generated_tokens"]
        assert root.resource["service.name"] == "decant"
        assert "swordfish" not in repr(collector.spans)
        assert "good" not in repr(collector.spans)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reward_that_fails_fails_its_span_and_the_requests(stream: bool) -> None:
    with collecting() as collector, serve_toy(traced(collector), FAILING) as server:
        body = {**BEST, "stream": stream}
        assert httpx.post(f"{server.url}/v1/completions", json=body, headers={ID: "mine"}).status_code == 502
        wrong = httpx.post(f"{server.url}/v1/completions", json={"prompt": 7.5}, headers={ID: "wrong"})
        assert wrong.status_code == 400
        server.stop()
        spans = collector.of("mine")
        assert {span.name for span in spans if span.failed} >= {"POST /v1/completions", "score default"}
        assert spans[0].attributes["error.type"] == "RewardFailed"
        assert "swordfish" not in repr(spans)
        [refused] = collector.of("wrong")
        assert (refused.failed, refused.attributes["error.type"]) == (False, "InvalidRequest")


def test_a_failure_in_a_stream_that_had_begun_fails_the_span_of_a_200() -> None:
    prelude = """
from server import loading
from tests.support.fakes import FailingPolicy, world
loading.toy = lambda settings=None: world(FailingPolicy(RuntimeError("swordfish"), give=1))
from server import warmup
async def nothing(loaded): pass
warmup.warm_up = nothing
"""
    with collecting() as collector, serve_toy(traced(collector), prelude) as server:
        body = {"prompt": "good", "stream": True, "seed": 1}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, headers={ID: "mine"})
        assert (answer.status_code, "internal_error" in answer.text) == (200, True)
        server.stop()
        spans = collector.of("mine")
        assert [span.name for span in spans if span.failed] == ["POST /v1/completions", "generate"]
        assert spans[0].attributes["error.type"] == "RuntimeError"


def test_a_reward_on_another_server_continues_the_trace_of_each_request() -> None:
    received: list[str] = []

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            traced_by = self.headers.get("traceparent")  # None for the warm-up's, which is no request's
            received.extend([traced_by] if traced_by else [])
            texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            said: dict[str, Any] = {"data": [{"index": i, "probs": [1.0]} for i in range(len(texts))]}
            status = 503 if traced_by and len(received) == 1 else 200
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Judge) as judge, collecting() as collector:
        Thread(target=judge.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{judge.server_address[1]}/classify"
        with serve_toy(traced(collector), REMOTE.replace("URL", url)) as server:
            body = {"prompt": "good", "max_tokens": 2, "decoding": {"strategy": "best_of_n", "n": 1}}
            for name in ("one", "two"):
                answer = httpx.post(f"{server.url}/v1/completions", json=body, headers={ID: name}, timeout=PATIENCE)
                assert answer.status_code == 200, answer.text
            server.stop()
        judge.shutdown()
        assert len(received) == 3
        for name, headers, calls in (("one", received[:2], 2), ("two", received[2:], 1)):
            spans = collector.of(name)
            [score] = [span for span in spans if span.name == "score far"]
            sent = below(spans, score)
            assert [(span.name, span.kind) for span in sent] == [("POST", "CLIENT")] * calls
            assert [f"00-{span.trace}-{span.id}" for span in sent] == [one.rpartition("-")[0] for one in headers]
            assert {span.attributes["url.full"] for span in sent} == {url}
        again = [span for span in collector.of("one") if span.kind == "CLIENT"]
        assert [span.attributes["http.response.status_code"] for span in again] == [503, 200]
        assert [span.attributes.get("http.request.resend_count") for span in again] == [None, 1]


def test_no_span_is_lost_when_the_server_ends() -> None:
    slow = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}  # ms: nothing is sent before the end
    with collecting() as collector, serve_toy(traced(collector, **slow)) as server:
        with httpx.Client(base_url=server.url) as client:
            for i in range(100):
                client.post("/v1/completions", json={"prompt": "good", "max_tokens": 1}, headers={ID: str(i)})
        assert collector.spans == []
        server.stop()
        ids = [span.attributes["decant.request_id"] for span in collector.spans if span.kind == "SERVER"]
        assert sorted(map(int, ids)) == list(range(100))


def test_the_standard_variables_are_honoured() -> None:
    more = {
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
    }
    with collecting() as collector, serve_toy(traced(collector, **more)) as server:
        httpx.get(f"{server.url}/v1/models", headers={ID: "dropped"})
        httpx.get(f"{server.url}/v1/models", headers={ID: "kept", **GIVEN})
        httpx.get(f"{server.url}/healthz", headers=GIVEN)
        server.stop()
        assert [span.attributes["decant.request_id"] for span in collector.spans] == ["kept"]
        [span] = collector.spans
        assert (span.resource["service.name"], span.resource["deployment.environment.name"]) == ("mine", "test")
        assert collector.headers[0]["api-key"] == "secret"


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_tracing_can_be_off(off: dict[str, str]) -> None:
    with collecting() as collector, serve_toy(traced(collector, **off)) as server:
        assert httpx.post(f"{server.url}/v1/completions", json=BEST).status_code == 200
        server.stop()
        assert collector.spans == []


def test_a_collector_that_is_away_delays_neither_answers_nor_the_end() -> None:
    with serve_toy({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}) as server:
        assert httpx.post(f"{server.url}/v1/completions", json=BEST).status_code == 200
        server.stop()


@pytest.mark.parametrize("wrong", [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}])
def test_what_cannot_be_honoured_is_refused_at_the_start(wrong: dict[str, str]) -> None:
    command = [sys.executable, "-m", "server.cli", "serve", "--toy", "--port", "0"]
    variables = {"PATH": "", "PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **wrong}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert next(iter(wrong)) in done.stderr
