"""Decant inside an unmodified `vllm serve`: strategies on its engine, and all else as without the plug-in."""

import time
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import yaml

from evaluation.support.servers import vllm_serve
from tests.support.hosted import KEY, Hosted, flags, settings
from tests.support.serving import Json, events, ok, refused, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

BODY: Json = {"prompt": "The quick brown", "max_tokens": 8, "seed": 5}
CHAT: Json = {"messages": [{"role": "user", "content": "A good answer"}], "max_tokens": 8, "seed": 5}
BEST: Json = {"strategy": "best_of_n", "n": 4, "return_candidates": True}
SCHEMA: Json = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
TOOL: Json = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}


def lasting(value: Any) -> Any:
    """`value` without what differs between two servers: ids, times, fingerprints."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in ("id", "created", "system_fingerprint")}
    return [lasting(one) for one in value] if isinstance(value, list) else value


PLAIN: list[tuple[str, Json]] = [
    ("/v1/completions", {**BODY, "logprobs": 2, "n": 2}),
    ("/v1/completions", {**BODY, "prompt": ["A good", "How much"], "temperature": 0}),
    ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
    ("/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": "required", "max_tokens": 64}),
    ("/v1/chat/completions", {**CHAT, "tools": []}),
    ("/v1/chat/completions", {**CHAT, "model": "other"}),
    ("/v1/completions", {"prompt": "a", "max_tokens": -1}),
    ("/v1/completions", {**BODY, "decoding": None}),
    ("/v1/responses", {"input": "A good answer", "max_output_tokens": 8, "temperature": 0}),
    ("/v1/messages", {"model": "tiny", "max_tokens": 8, "temperature": 0, "messages": CHAT["messages"]}),
    ("/tokenize", {"prompt": "A good answer"}),
]


@pytest.mark.parametrize(("path", "body"), PLAIN, ids=[f"{i}{path}" for i, (path, _) in enumerate(PLAIN)])
def test_what_asks_for_no_strategy_is_answered_as_without_the_plug_in(hosted: Hosted, path: str, body: Json) -> None:
    ours, theirs = hosted.client.post(path, json=body), hosted.bare.post(path, json=body)
    assert ours.status_code == theirs.status_code
    assert lasting(ours.json()) == lasting(theirs.json())


@pytest.mark.parametrize(("path", "body"), [("completions", BODY), ("chat/completions", CHAT)])
def test_a_stream_of_vllms_is_passed_on(hosted: Hosted, path: str, body: Json) -> None:
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    ours, theirs = (client.post(f"/v1/{path}", json=body) for client in (hosted.client, hosted.bare))
    assert lasting(events(ours.text)[0]) == lasting(events(theirs.text)[0])
    assert ours.headers["content-type"] == theirs.headers["content-type"]


@pytest.mark.parametrize(("path", "body"), [("completions", BODY), ("chat/completions", CHAT)])
def test_a_strategy_runs_on_vllms_engine(hosted: Hosted, path: str, body: Json) -> None:
    report = ok(hosted.post(path, {**body, "decoding": BEST}))["decoding"]
    best = max(report["candidates"], key=lambda candidate: float(candidate["rewards"]["default"]))
    assert best["chosen"]
    assert len({candidate["text"] for candidate in report["candidates"]}) > 1


def test_a_plain_sample_of_decants_is_vllms_own(hosted: Hosted) -> None:
    theirs = ok(hosted.post("completions", BODY))
    ours = ok(hosted.post("completions", {**BODY, "decoding": {"strategy": "sample"}}))
    assert ours["choices"][0]["text"] == theirs["choices"][0]["text"]


@pytest.mark.parametrize(("path", "body"), [("completions", BODY), ("chat/completions", CHAT)])
def test_what_is_told_of_tokens_is_what_vllm_tells(hosted: Hosted, path: str, body: Json) -> None:
    asked = {**body, "return_token_ids": True, "prompt_logprobs": 2, "truncate_prompt_tokens": 3, "cache_salt": "a"}
    theirs = ok(hosted.bare.post(f"/v1/{path}", json=asked))
    ours = ok(hosted.post(path, {**asked, "decoding": {"strategy": "sample"}}))
    assert ours["choices"][0]["token_ids"] == theirs["choices"][0]["token_ids"]
    one, other = (answer if path.startswith("chat") else answer["choices"][0] for answer in (ours, theirs))
    assert one["prompt_token_ids"] == other["prompt_token_ids"]
    assert one["prompt_logprobs"][0] is None is other["prompt_logprobs"][0]
    for mine, its in zip(one["prompt_logprobs"][1:], other["prompt_logprobs"][1:], strict=True):
        assert mine.keys() == its.keys()
        for token, entry in mine.items():
            assert entry["logprob"] == pytest.approx(its[token]["logprob"], abs=1e-5)
            assert entry["rank"] == its[token]["rank"]


def test_a_budget_of_reasoning_needs_a_parser_of_it(hosted: Hosted) -> None:
    body = {**CHAT, "thinking_token_budget": 3, "decoding": {"strategy": "sample"}}
    assert refused(hosted.post("chat/completions", body), 400)["param"] == "thinking_token_budget"


@pytest.mark.parametrize("choice", ["required", "auto", {"type": "function", "function": {"name": "f"}}])
def test_tools_are_called_as_vllm_calls_them(hosted: Hosted, choice: Any) -> None:
    body = {**CHAT, "tools": [TOOL], "tool_choice": choice, "max_tokens": 64}
    theirs = lasting(ok(hosted.bare.post("/v1/chat/completions", json=body)))
    ours = lasting(ok(hosted.post("chat/completions", {**body, "decoding": {"strategy": "sample"}})))
    assert ours["usage"]["prompt_tokens"] == theirs["usage"]["prompt_tokens"]
    [one], [other] = ours["choices"], theirs["choices"]
    assert one["finish_reason"] == other["finish_reason"]
    assert one["message"].get("tool_calls") == other["message"].get("tool_calls")
    assert one["message"]["content"] == (other["message"]["content"] or None)


def test_every_strategy_runs(hosted: Hosted) -> None:
    ways: list[Json] = [
        {"strategy": "controlled", "candidates": 2, "block_tokens": 4},
        {"strategy": "particles", "particles": 4, "block_tokens": 4},
        {"strategy": "speculative_rejection", "n": 4, "checkpoints": [4]},
        {"strategy": "rejection", "calibrated": True, "rollouts": 4, "max_draws": 4},
        {"strategy": "cascade", "accept_threshold": 0.0},
        {"strategy": "best_of_n", "n": 2, "reward": "likely", "guides": {"weak": 1, "values": 0.1}, "return_kl": True},
        {"strategy": "reward_guided", "guides": {"weak": 1.0}},
    ]
    for decoding in ways:
        answer = ok(hosted.post("completions", {**BODY, "decoding": decoding}))
        assert answer["decoding"]["strategy"] == decoding["strategy"]


def test_guides_are_mixed_into_vllms_engine(hosted: Hosted) -> None:
    greedy = {**BODY, "temperature": 0, "logprobs": 1}
    plain = ok(hosted.post("completions", greedy))["choices"][0]
    none = ok(hosted.post("completions", {**greedy, "decoding": {"strategy": "sample"}}))["choices"][0]
    guided = {**greedy, "decoding": {"strategy": "reward_guided", "guides": {"weak": 4.0}}}
    steered = ok(hosted.post("completions", guided))["choices"][0]
    assert none["text"] == plain["text"] != steered["text"]
    bare = ok(hosted.bare.post("/v1/completions", json=greedy))["choices"][0]
    assert plain["logprobs"]["token_logprobs"] == pytest.approx(bare["logprobs"]["token_logprobs"], abs=1e-5)


def test_presets_headers_and_reports_work_as_on_decants_own_server(hosted: Hosted) -> None:
    names = [card["id"] for card in ok(hosted.client.get("/v1/models"))["data"]]
    assert names[:2] == ["tiny", "tiny:careful"]
    assert "tiny:dvts" in names
    response = hosted.post("chat/completions", {**CHAT, "model": "tiny:careful"})
    made = ok(response)
    assert made["decoding"]["cost"]["candidates"] == 3
    assert response.headers["x-decant-candidates"] == "3"
    assert ok(hosted.client.get(f"/v1/reports/{made['id']}"))["decoding"] == made["decoding"]
    assert ok(hosted.client.get("/v1/strategies"))["rewards"]["likely"]["kind"] == "guide"


def test_an_unmodified_client_streams_a_strategy(hosted: Hosted) -> None:
    client = openai.OpenAI(base_url=f"{hosted.client.base_url}/v1", api_key=KEY)
    ask = client.chat.completions.create
    chunks = list(ask(model="tiny:careful", messages=CHAT["messages"], max_tokens=8, stream=True))
    assert chunks[0].model == "tiny:careful"
    assert (chunks[-1].model_extra or {})["decoding"]["strategy"] == "best_of_n"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/strategies", "/v1/rewards", "/v1/reports/x"])
def test_vllms_keys_guard_decants_paths(hosted: Hosted, path: str) -> None:
    method = "POST" if path in ("/v1/completions", "/v1/rewards") else "GET"
    body = {**BODY, "decoding": BEST}
    answer = httpx.request(method, f"{hosted.client.base_url}{path}".replace("//v1", "/v1"), json=body)
    assert answer.status_code == 401


def test_errors_are_decants_where_a_strategy_is_asked_for(hosted: Hosted) -> None:
    error = refused(hosted.post("completions", {**BODY, "decoding": {**BEST, "guides": {"strong": 1}}}), 400)
    assert error["message"] == "The guide 'strong' is not loaded. Loaded guides: values, weak."
    refused(hosted.post("completions", {**BODY, "decoding": {**BEST, "n": 0}}), 400)


def test_the_metrics_page_has_both(hosted: Hosted) -> None:
    ok(hosted.post("completions", {**BODY, "decoding": BEST}))
    page = hosted.client.get("/metrics").text
    assert 'decant_request_duration_seconds_count{outcome="ok",strategy="best_of_n"}' in page
    assert 'decant_engine_up{engine="policy"} 1.0' in page
    assert "vllm:num_requests_running" in page
    assert page.count("# HELP decant_engine_up ") == 1


def test_a_client_that_leaves_stops_its_work(hosted: Hosted) -> None:
    def metric(name: str) -> float:
        lines = hosted.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    left = 'decant_request_duration_seconds_count{outcome="cancelled",strategy="sample"}'
    before = metric(left)
    long = {**BODY, "max_tokens": 900, "ignore_eos": True, "stream": True, "decoding": {"strategy": "sample"}}
    with hosted.client.stream("POST", "/v1/completions", json=long) as response:
        assert next(response.iter_lines()).startswith("data: ")
    deadline = time.monotonic() + 20
    while metric(left) == before or metric("vllm:num_requests_running{"):
        assert time.monotonic() < deadline, "the engine still works"
        time.sleep(0.1)


def test_wrong_settings_stop_the_start_with_a_line_for_each(tmp_path: Path, hosted: Hosted) -> None:
    config = tmp_path / "decant.yaml"
    wrong = {**settings(hosted.models), "presets": {"a": {"strategy": "best_of_n", "reward": "helpful"}}, "prests": 3}
    config.write_text(yaml.safe_dump({**wrong, "guides": {}, "rewards": {}}))
    log = tmp_path / "log"
    words = [str(hosted.models["policy"]), "--served-model-name", "tiny", *flags()[:-1], "--enable-chunked-prefill"]
    with pytest.raises(SystemExit), vllm_serve(words, log, DECANT_CONFIG=str(config), VLLM_PLUGINS="decant"):
        pass
    text = log.read_text()
    for line in (
        "decant: --no-enable-chunked-prefill is needed on CPU",
        "prests: there is no such setting; did you mean presets?",
        "presets.a.reward: The reward 'helpful' is not loaded",
    ):
        assert line in text
    assert "Traceback" not in text.partition("decant: --no-enable")[2]


def test_a_dead_engine_of_a_reward_fails_strategies_alone(hosted: Hosted) -> None:
    """The last test of the server: it ends the engine."""
    port = hosted.client.base_url.port
    server = next(c.pid for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr[1:] == (port,))
    engines = [p for p in psutil.Process(server).children() if "EngineCore" in " ".join(p.cmdline()) + p.name()]
    max(engines, key=lambda process: process.create_time()).kill()  # the policy's is the elder
    until(lambda: hosted.client.get("/readyz").status_code == 503)
    refusal = hosted.post("completions", {**BODY, "decoding": {"strategy": "best_of_n", "n": 2}})
    assert refused(refusal, 503)["code"] == "engine_dead"
    assert ok(hosted.post("completions", BODY))["choices"][0]["text"]
    assert hosted.client.get("/health").status_code == 200
