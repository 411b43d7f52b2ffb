"""Requests that fail, hang or are left: their status and metrics, and that no work goes on after them."""

import json
import math
import time

import pytest

from decoders.errors import EngineDead, EngineFailed
from decoders.models import Reward
from decoders.policy import Policy
from decoders.testing import ToyReward
from tests.support.fakes import ActingReward, FailingPolicy, FakeEngine, HeldPolicy, giving, hanging, raising, world
from tests.support.serving import Api, Json, events, meanwhile, refused, serving, speaking, until

BEST: Json = {"prompt": "good", "decoding": {"strategy": "best_of_n", "n": 4}}
PLAIN: Json = {"prompt": "good", "seed": 2}
BODIES = [{**body, "stream": s} for body in (PLAIN, BEST, {**PLAIN, "prompt": ["good", "bad"]}) for s in (False, True)]
SECRET = "the password is swordfish"


def outcomes(api: Api, outcome: str) -> float:
    api.rest()
    return api.metric("decant_request_duration_seconds_count", outcome=outcome)


def idle(api: Api) -> bool:
    api.rest()
    return api.metric("decant_requests_in_flight") == 0 and api.server.state.admission.idle


@pytest.mark.parametrize(
    ("reward", "status", "words"),
    [
        (raising(ValueError("no weights")), 502, "The reward 'default' failed: it raised ValueError"),
        (hanging(), 504, "The reward 'default' took more than 0.2 s."),
        (giving(math.nan), 502, "0 of 4 candidates have a finite reward"),
        (giving(-math.inf), 502, "0 of 4 candidates have a finite reward"),
    ],
    ids=["raises", "hangs", "all NaN", "all infinite"],
)
def test_a_reward_that_fails_is_named(reward: ActingReward, status: int, words: str) -> None:
    with serving(world(rewards={"default": reward}, reward_timeout=0.2)) as api:
        for stream in (False, True):
            error = refused(api.post("completions", {**BEST, "stream": stream}), status)
            assert error["message"].startswith(words)
            assert reward.calls == reward.ended > 0
        assert outcomes(api, "timeout" if status == 504 else "failed") == 2
        api.complete()


def test_a_reward_that_fails_stops_the_others() -> None:
    slow = hanging()
    with serving(world(rewards={"bad": raising(ValueError("no")), "slow": slow})) as api:
        weights = {"bad": 1, "slow": 1}
        body = {"prompt": "good", "completions": ["bad"], "reward": weights}
        assert "'bad'" in refused(api.post("rewards", body), 502)["message"]
        assert (slow.calls, slow.ended) == (1, 1)
        for strategy in ("sample", "best_of_n"):
            refused(api.post("completions", {**PLAIN, "decoding": {"strategy": strategy, "reward": weights}}), 502)
        assert slow.calls == slow.ended


def test_a_dead_engine_is_a_503_everywhere() -> None:
    engine = FakeEngine()
    with serving(world(engines={"policy": engine})) as api:
        assert api.http.get("/readyz").status_code == api.http.get("/healthz").status_code == 200
        api.complete()
        engine.errored = True
        for path in ("/healthz", "/readyz"):
            response = api.http.get(path)
            assert response.status_code == 503
            assert response.json()["engines"] == {"policy": False}
        error = refused(api.post("completions", PLAIN), 503)
        assert (error["code"], error["message"]) == (
            "engine_dead",
            "The policy engine has died. The server must be restarted.",
        )
        score = {"prompt": "good", "completions": ["bad"]}
        assert refused(api.post("rewards", score), 503)["code"] == "engine_dead"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineDead("It is gone."), 503, "engine_dead"),
        (EngineFailed("It lost this one."), 500, "engine_failed"),
        (RuntimeError(SECRET), 500, "internal_error"),
        (TimeoutError(SECRET), 500, "internal_error"),
    ],
    ids=repr,
)
def test_an_engine_that_fails_before_the_first_byte_has_its_status(error: Exception, status: int, code: str) -> None:
    with serving(world(FailingPolicy(error))) as api:
        for body in BODIES:
            told = refused(api.post("completions", body), status)
            assert told["code"] == code
            assert told["type"] == "server_error"
            assert SECRET not in told["message"]
        assert outcomes(api, "failed") == len(BODIES)
        assert idle(api)


@pytest.mark.parametrize("error", [EngineFailed("It lost this one."), RuntimeError(SECRET)], ids=repr)
def test_a_failure_in_a_stream_is_its_last_event(error: Exception) -> None:
    with serving(world(FailingPolicy(error, give=2))) as api:
        response = api.post("completions", {**PLAIN, "stream": True})
        assert response.status_code == 200
        *chunks, last = events(response.text)[0]
        assert len(chunks) == 2
        assert last["error"]["type"] == "server_error"
        assert SECRET not in response.text
        assert outcomes(api, "failed") == 1


def test_what_was_drawn_is_sent_before_the_error_of_a_reward() -> None:
    whole = {**PLAIN, "seed": 5}
    scored = {"strategy": "sample", "reward": "default"}
    with serving(world(rewards={"default": raising(ValueError("no weights"))})) as api:
        text = api.post("completions", whole).json()["choices"][0]["text"]
        *chunks, last = events(api.post("completions", {**whole, "stream": True, "decoding": scored}).text)[0]
        assert len(chunks) > 1
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert last["error"]["code"] == "reward_failed"


def test_what_fails_outside_the_work_is_a_500_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: str) -> None:
        raise RuntimeError(SECRET)

    loaded = world()
    monkeypatch.setattr(loaded.text, "encode", broken)
    with serving(loaded) as api:
        assert refused(api.post("completions", PLAIN), 500)["message"].startswith("The server failed")


def test_a_request_that_takes_too_long_is_stopped_whole() -> None:
    policy = HeldPolicy()
    with serving(world(policy), request_timeout_s=0.2) as api:
        for body in BODIES:
            error = refused(api.post("completions", body), 504)
            assert (error["code"], error["message"]) == ("request_timeout", "The request took more than 0.2 s.")
            assert policy.working == 0
        assert policy.opened == sum(1 if isinstance(body["prompt"], str) else 2 for body in BODIES)
        assert outcomes(api, "timeout") == len(BODIES)
        assert idle(api)


def test_a_stream_that_takes_too_long_ends_with_the_error() -> None:
    policy = HeldPolicy(give=1)
    with serving(world(policy), request_timeout_s=0.3) as api:
        chunks, _ = events(api.post("completions", {**PLAIN, "stream": True}).text)
        assert chunks[-1]["error"]["code"] == "request_timeout"
        assert policy.working == 0


def test_a_client_that_leaves_stops_its_work() -> None:
    policy = HeldPolicy()
    with serving(world(policy)) as api:
        for body in BODIES:
            with speaking(api, "completions", body):
                until(lambda: policy.working > 0)
            until(lambda: policy.working == 0)
        assert outcomes(api, "cancelled") == len(BODIES)
        assert idle(api)


def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_its_work() -> None:
    policy = HeldPolicy(give=2)
    with serving(world(policy)) as api:
        with api.http.stream("POST", "/v1/completions", json={**PLAIN, "n": 4, "stream": True}) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["index"] == 0
            assert policy.working == 1
        until(lambda: policy.working == 0)
        assert outcomes(api, "cancelled") == 1


def test_a_client_that_leaves_while_rewards_are_given_stops_them() -> None:
    reward = hanging()
    with serving(world(rewards={"default": reward})) as api:
        with speaking(api, "completions", BEST):
            until(lambda: reward.calls == 4)
        until(lambda: reward.ended == 4)
        assert outcomes(api, "cancelled") == 1


def test_a_client_that_leaves_the_queue_gives_up_its_turn() -> None:
    policy = HeldPolicy()
    with serving(world(policy), max_sequences=1) as api, meanwhile(lambda: api.post("completions", PLAIN)) as first:
        until(lambda: policy.working == 1)
        with speaking(api, "completions", PLAIN):
            until(lambda: api.server.state.admission.queued == 1)
        until(lambda: api.metric("decant_request_duration_seconds_count", outcome="cancelled") == 1)
        assert api.server.state.admission.queued == 0
        policy.released.set()
        assert first.result(30).status_code == 200
        assert policy.opened == 1


def test_comments_say_that_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.event_writer.HEARTBEAT", 0.1)
    policy = HeldPolicy()
    body = {**BEST, "stream": True}
    with serving(world(policy)) as api, api.http.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200
        parts, began = response.iter_text(), time.monotonic()
        heard = "".join(next(parts) for _ in range(3))
        assert time.monotonic() - began >= 0.15
        policy.released.set()
        heard += "".join(parts)
    chunks, comments = events(heard)
    assert comments[:3] == [": best_of_n has worked for 0 s"] * 3
    assert len(chunks) == 1
    assert chunks[0]["decoding"]["results"][0]["draws"] == 4


def test_a_stream_that_flows_has_no_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.event_writer.HEARTBEAT", 5.0)
    with serving(world()) as api:
        assert events(api.post("completions", {**PLAIN, "stream": True}).text)[1] == []


def test_after_a_comment_an_error_can_only_be_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.event_writer.HEARTBEAT", 0.1)
    rewards: dict[str, Reward] = {"default": ToyReward()}
    policy: Policy = HeldPolicy()
    with serving(world(policy, rewards), request_timeout_s=0.5) as api:
        response = api.post("completions", {**BEST, "stream": True})
        assert response.status_code == 200
        chunks, comments = events(response.text)
        assert [chunk["error"]["code"] for chunk in chunks] == ["request_timeout"]
        assert comments
