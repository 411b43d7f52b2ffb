"""/metrics: how long requests and their phases took."""

import json
import time
from collections.abc import Iterator

import pytest

from server.loading import toy
from tests.support.fakes import HeldPolicy, world
from tests.support.serving import MINIMAL, Api, Json, meanwhile, ok, serving, until

BEST: Json = {"strategy": "best_of_n", "n": 8, "return_candidates": True}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def test_each_request_has_one_outcome_and_phases_within_its_duration(api: Api) -> None:
    reports = [api.complete(decoding=BEST)["decoding"] for _ in range(3)]
    api.rest()
    assert api.count("request_duration_seconds", strategy="best_of_n", outcome="ok") == 3
    assert api.count("request_duration_seconds") == 3
    phases = {phase: api.total("phase_duration_seconds", phase=phase) for phase in reports[0]["cost"]["seconds"]}
    assert set(phases) == {"queue", "generate", "score", "select"}
    for phase, seconds in phases.items():
        assert api.count("phase_duration_seconds", phase=phase) == 3
        assert seconds == pytest.approx(sum(report["cost"]["seconds"][phase] for report in reports))
    assert sum(phases.values()) <= api.total("request_duration_seconds")
    assert api.count("time_to_first_token_seconds", strategy="best_of_n") == 3
    assert api.total("time_to_first_token_seconds") <= api.total("request_duration_seconds")


@pytest.mark.parametrize("path", ["completions", "chat/completions", "rewards"])
def test_a_request_lasts_from_before_its_body_is_read(path: str) -> None:
    """The body of this client comes late; how late a busy machine accepts its call is left room for."""
    late = 1.0  # seconds

    def body() -> Iterator[bytes]:
        time.sleep(late)
        yield json.dumps(MINIMAL[path]).encode()

    with serving(toy()) as api:
        ok(api.http.post(f"/v1/{path}", content=body()))
        api.rest()
        assert api.total("request_duration_seconds") >= late / 2
        if path != "rewards":
            assert api.total("time_to_first_token_seconds") >= late / 2
        assert api.total("phase_duration_seconds", phase="queue") < late / 2


def test_waiting_for_a_place_is_the_queue_phase() -> None:
    policy = HeldPolicy()
    with (
        serving(world(policy), max_sequences=1) as api,
        meanwhile(lambda: api.post("completions", {"prompt": "good"})) as first,
    ):
        until(lambda: policy.working == 1)
        assert api.metric("decant_requests_in_flight", strategy="sample") == 1
        with meanwhile(lambda: api.post("completions", {"prompt": "good"})) as second:
            until(lambda: api.metric("decant_requests_queued") == 1)
            assert api.metric("decant_requests_in_flight", strategy="sample") == 2
            waited = api.total("phase_duration_seconds", phase="queue") + 0.05
            time.sleep(0.05)
            policy.released.set()
        ok(first.result())
        ok(second.result())
        assert api.count("phase_duration_seconds", phase="queue") == 2
        assert api.total("phase_duration_seconds", phase="queue") >= waited
        api.rest()
        assert api.metric("decant_requests_in_flight") == api.metric("decant_requests_queued") == 0
