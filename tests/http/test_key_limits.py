"""Limits of keys: 429 with its headers, strategies that a key is not for, and what counts."""

from pathlib import Path

import openai
import pytest

from decoders.testing import ToyReward
from server.http.rate_limit_headers import _duration
from server.loading import toy
from server.runtime.presets import offered
from server.settings import ServerSettings
from tests.http.test_auth import bearer
from tests.http.test_key_reload import command
from tests.support.fakes import HeldPolicy, world
from tests.support.serving import MINIMAL, Json, meanwhile, ok, refused, serving, speaking, until

PLAIN: Json = {"prompt": "good", "max_tokens": 4}
BEST: Json = {**PLAIN, "decoding": {"strategy": "best_of_n", "n": 4}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def key(file: Path, *options: str, name: str = "ann") -> dict[str, str]:
    """The headers of a new key."""
    return bearer(command("add", name, "--file", str(file), *options).strip())


def test_requests_over_the_limit_are_429_and_tell_when(file: Path) -> None:
    ann, bob = key(file, "--requests-per-minute", "2"), key(file, name="bob")
    with serving(toy(), api_keys_file=file) as api:
        first = api.post("completions", PLAIN, headers=ann)
        ok(first)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")
        assert "x-ratelimit-limit-tokens" not in first.headers
        refused(api.post("completions", {**PLAIN, "zip": 1}, headers=ann), 400)  # a request too
        over = api.post("completions", PLAIN, headers=ann)
        error = refused(over, 429)
        assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
        assert error["message"] == "This key may send 2 requests a minute."
        assert 28 <= int(over.headers["retry-after"]) <= 30
        assert over.headers["x-ratelimit-remaining-requests"] == "0"
        assert ok(api.http.get("/v1/models", headers=ann))["object"] == "list"
        other = api.post("completions", PLAIN, headers=bob)
        ok(other)
        assert not [name for name in other.headers if name.startswith("x-ratelimit")]
        assert api.metric("decant_refused_total", reason="rate_limited") == 1
        client = openai.OpenAI(base_url=f"{api.url}/v1", api_key=ann["Authorization"].split()[1], max_retries=0)
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="toy", prompt="good")


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_counted_as_they_were_used(file: Path, stream: bool) -> None:
    ann = key(file, "--tokens-per-minute", "60")
    with serving(toy(), api_keys_file=file) as api:
        plain = api.post("completions", {**PLAIN, "stream": stream}, headers=ann)
        assert plain.status_code == 200
        assert plain.headers["x-ratelimit-limit-tokens"] == "60"
        assert plain.headers["x-ratelimit-remaining-tokens"] == "55"  # 1 of the prompt, 4 that it may generate
        before = int(api.http.get("/v1/models", headers=ann).headers["x-ratelimit-remaining-tokens"])
        assert before >= 55
        best = ok(api.post("completions", {**BEST, "max_tokens": 8}, headers=ann))
        used = best["usage"]["total_tokens"]
        assert used < 33
        left = api.http.get("/v1/models", headers=ann).headers["x-ratelimit-remaining-tokens"]
        assert 0 <= int(left) - (before - used) <= 2  # and what seconds brought back
        over = api.post("completions", {**PLAIN, "max_tokens": 59, "stream": stream}, headers=ann)
        assert refused(over, 429)["code"] == "rate_limit_exceeded"
        assert 1 <= int(over.headers["retry-after"]) <= 60
        assert int(over.headers["x-ratelimit-remaining-tokens"]) >= int(left)
        never = refused(api.post("completions", {**BEST, "max_tokens": 15}, headers=ann), 400)
        assert never["param"] == "decoding"
        assert "may use 61 tokens, over the 60" in never["message"]


def test_one_connection_may_use_all_its_sequences_again_and_again(file: Path) -> None:
    ann = key(file, "--sequences", "4")
    with serving(toy(), api_keys_file=file) as api:
        for _ in range(50):
            ok(api.post("completions", BEST, headers=ann))
        error = refused(api.post("completions", {**PLAIN, "n": 5, "temperature": 1}, headers=ann), 400)
        assert "draw 5 sequences at the same time, over the 4" in error["message"]


def test_sequences_of_requests_that_run_count(file: Path) -> None:
    ann, bob, policy = key(file, "--sequences", "4"), key(file, name="bob"), HeldPolicy()
    with serving(world(policy, {"default": ToyReward()}), api_keys_file=file) as api:
        with meanwhile(lambda: api.post("completions", BEST, headers=ann)) as first:
            until(lambda: api.metric("decant_requests_in_flight") == 1)
            over = api.post("completions", PLAIN, headers=ann)
            assert "4 of this key's 4 sequences" in refused(over, 429)["message"]
            assert over.headers["retry-after"] == "1"
            with meanwhile(lambda: api.post("completions", PLAIN, headers=bob)) as other:
                until(lambda: api.metric("decant_requests_in_flight") == 2)
                policy.released.set()
                ok(other.result())
            ok(first.result())
        ok(api.post("completions", BEST, headers=ann))


@pytest.mark.parametrize(("body", "left"), [({**BEST}, 60 - 17), ({**PLAIN, "stream": True}, 60 - 1)])
def test_a_client_that_leaves_pays_for_what_it_may_have_used(file: Path, body: Json, left: int) -> None:
    """All that best-of-4 may have drawn when its client left; of a stream only what was sent."""
    ann, policy = key(file, "--tokens-per-minute", "60"), HeldPolicy()
    with serving(world(policy, {"default": ToyReward()}), api_keys_file=file) as api:
        with speaking(api, "completions", body, ann):
            until(lambda: api.metric("decant_requests_in_flight") == 1)
            until(lambda: policy.opened > 0)
        until(lambda: api.metric("decant_requests_in_flight") == 0)
        headers = api.http.get("/v1/models", headers=ann).headers
        assert left <= int(headers["x-ratelimit-remaining-tokens"]) <= left + 2


def test_a_key_is_for_its_strategies_alone(file: Path) -> None:
    ann = key(file, "--strategies", "sample,particles")
    own = offered({}, "best-of-4", toy().models, ServerSettings(), shipped=True)
    with serving(toy(), own, api_keys_file=file) as api, serving(toy(), api_keys_file=file) as plain:
        ok(plain.post("completions", PLAIN, headers=ann))
        ok(api.post("completions", {**PLAIN, "decoding": {"strategy": "sample"}}, headers=ann))
        asked: list[tuple[Json, dict[str, str]]] = [
            (BEST, {}),
            ({**PLAIN, "model": "toy:best-of-4"}, {}),
            (PLAIN, {"X-Decant-Preset": "best-of-4"}),
            (PLAIN, {}),  # by default
        ]
        for body, headers in asked:
            error = refused(api.post("completions", body, headers={**ann, **headers}), 403)
            assert (error["code"], error["param"]) == ("strategy_not_allowed", "decoding.strategy")
            assert error["message"] == "This key is not for 'best_of_n'. It is for: particles, sample."
        assert api.metric("decant_refused_total", reason="strategy_not_allowed") == len(asked)
        refused(api.post("rewards", {**MINIMAL["rewards"], "calibrated": True}, headers=ann), 403)
        for path, fields in (("classify", {"input": "good"}), ("pooling", {"input": "good"})):
            assert refused(api.http.post(f"/{path}", json=fields, headers=ann), 403)["code"] == "strategy_not_allowed"
        ok(api.http.post("/tokenize", json={"prompt": "good"}, headers=ann))


def test_a_key_is_not_for_a_strategy_as_a_proposal_either(file: Path) -> None:
    ann = key(file, "--strategies", "best_of_n")
    with serving(toy(), api_keys_file=file) as api:
        ok(api.post("completions", BEST, headers=ann))
        decoding = {"strategy": "best_of_n", "n": 2, "proposal": {"strategy": "particles", "particles": 2}}
        error = refused(api.post("completions", {**PLAIN, "decoding": decoding}, headers=ann), 403)
        assert error["param"] == "decoding.proposal.strategy"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms"), (0.0124, "12ms"), (1.04, "1s"), (1.5, "1.5s"), (60, "1m0s"), (361.24, "6m1.2s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
