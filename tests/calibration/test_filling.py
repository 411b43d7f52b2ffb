"""`decant calibrate`: the store is filled ahead, so that requests draw no rollouts of their own."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from decoders.core import Candidate, Prompt
from decoders.models import Models
from decoders.testing import ToyReward, WatchedPolicy
from server import loading
from server.calibration.filling import calibrate
from server.calibration.store import CalibrationStore
from server.http.request_file import policy_prompts, read_bodies
from server.loading import Loaded
from server.settings import Settings
from tests.support.calibrate_command import COUNT, decant, lines, settings
from tests.support.fakes import world
from tests.support.serving import Api, Json, events, ok, refused, serving

pytestmark = pytest.mark.usefixtures("store")

COMPLETIONS: Json = {"prompt": ["good", "good bad"], "max_tokens": 8}
CHAT: Json = {"messages": [{"role": "user", "content": "good bad"}]}
BEST: Json = {"strategy": "best_of_n", "n": 3, "calibrated": True}
ONLY_STORED: Json = {**BEST, "on_demand": False}


@contextmanager
def served() -> Iterator[Api]:
    """The toy with the store of the settings."""
    loaded = loading.toy(settings())
    with serving(loaded) as api:
        yield api
    asyncio.run(loaded.aclose())


def drawn(answer: Json) -> int:
    count: int = answer["decoding"]["cost"]["candidates"]
    return count


def test_requests_like_those_in_the_file_draw_no_rollouts_any_more(tmp_path: Path) -> None:
    with served() as api:
        assert drawn(api.complete("good", max_tokens=8, decoding={**BEST, "rollouts": 4})) == 3 + 4
    done = decant(lines(tmp_path, {**COMPLETIONS, "n": 2, "logprobs": 1, "stream": True}, "", CHAT))
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "3 of 3 prompts have 6 rollouts of default, brevity"
    with served() as api:
        for reward in ("default", "brevity", {"default": 1.0, "brevity": 0.5}):
            decoding = {**BEST, "reward": reward}
            assert drawn(api.complete(**COMPLETIONS, decoding=decoding)) == 2 * 3
            assert drawn(ok(api.post("chat/completions", {**CHAT, "decoding": decoding}))) == 3
        assert drawn(api.complete([1, 2], max_tokens=8, n=2, logprobs=1, decoding=BEST)) == 3, "good bad"
        assert drawn(api.complete(**COMPLETIONS, decoding={**BEST, "guides": {"kind": 1.0}})) == 2 * 3
        scored = {"prompt": "good", "completions": ["good"], "calibrated": True, "max_tokens": 8}
        assert ok(api.post("rewards", scored))["cost"]["generated_tokens"] == 0
        assert ok(api.post("rewards", {**scored, "max_tokens": 10}))["cost"]["generated_tokens"] > 0
        for change in ({"temperature": 0.5}, {"max_tokens": 9}, {"top_k": 2}, {"logit_bias": {"1": 1}}):
            assert drawn(api.complete(**{**COMPLETIONS, **change}, decoding=BEST)) == 2 * (3 + COUNT), change
            assert drawn(api.complete(**{**COMPLETIONS, **change}, decoding=BEST)) == 2 * 3, "now they are stored"
        assert drawn(api.complete(**COMPLETIONS, decoding={**BEST, "rollouts": COUNT + 1})) == 2 * (3 + COUNT + 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_may_not_draw_rollouts_needs_stored_ones(tmp_path: Path, stream: bool) -> None:
    decant(lines(tmp_path, COMPLETIONS), "--reward", "default")
    with served() as api:
        body = {**COMPLETIONS, "stream": stream, "decoding": ONLY_STORED}
        for wrong in (
            {**body, "temperature": 0.5},
            {**body, "decoding": {**ONLY_STORED, "reward": "brevity"}},
            {**body, "decoding": {**ONLY_STORED, "rollouts": COUNT + 1}},
        ):
            error = refused(api.post("completions", wrong), 400)
            assert error["param"] == "decoding.on_demand"
            assert "decant calibrate" in error["message"]
        response = api.post("completions", body)
        assert drawn(events(response.text)[0][-1] if stream else ok(response)) == 2 * 3


class Choosy:
    """The toy's reward, which fails for one prompt."""

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        if prompt.text == "bad":
            raise ValueError("not this one")
        return await ToyReward().score(prompt, completions)


def test_a_prompt_that_fails_is_reported_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = loading.toy

    def choosy(settings: Settings) -> Loaded:
        loaded, rewards = toy(settings), world(rewards={"default": Choosy()}).models.rewards
        return replace(loaded, models=replace(loaded.models, rewards=rewards))

    with monkeypatch.context() as patch:
        patch.setattr(loading, "toy", choosy)
        done = decant(lines(tmp_path, {"prompt": "good"}, {"prompt": ["odd", "bad"]}, {"prompt": "plain"}))
    assert done.exit_code == 1
    assert done.stderr == "line 2: The reward 'default' failed: ValueError: not this one\n"
    assert done.stdout.splitlines()[-1] == "3 of 4 prompts have 6 rollouts of default"
    with served() as api:
        assert drawn(api.complete(["good", "odd", "plain"], decoding=ONLY_STORED)) == 3 * 3
        refused(api.post("completions", {"prompt": "bad", "decoding": ONLY_STORED}), 400)


def test_what_is_stored_is_not_drawn_again_and_only_so_many_prompts_are_at_work_at_once(
    tmp_path: Path, store: Path
) -> None:
    async def test() -> None:
        kept = CalibrationStore(store, "watched", {})
        watched = WatchedPolicy(after=look)
        policy.append(watched)
        models = Models(watched, world().models.rewards, kept)
        bodies = read_bodies(lines(tmp_path, *({"prompt": "good " * i} for i in range(1, 6))))
        work = await policy_prompts(bodies, loading.toy().text)
        assert [(line, prompt.tokens) for line, prompt, _ in work] == [(i, (1,) * i) for i in range(1, 6)]
        ticks: list[int] = []

        async def fill(count: int, width: int = 2) -> int:
            """The tokens it takes."""
            before = watched.tokens
            assert await calibrate(models, work, ["default"], count, width, lambda: ticks.append(1)) == []
            return watched.tokens - before

        assert await fill(4) > 0
        assert (watched.candidates, max(at_once), len(ticks)) == (5 * 4, 2, 5)
        assert await fill(4) == await fill(3) == 0
        assert len(ticks) == 15
        assert await fill(5, width=3) > 0
        assert (watched.candidates, max(at_once)) == (5 * (4 + 5), 3)
        assert all([len(await kept.stored(prompt, sampling, "default")) == 5 for _, prompt, sampling in work])
        await kept.aclose()

    policy: list[WatchedPolicy] = []
    at_once: list[int] = []

    async def look() -> None:
        at_once.append(policy[0].open)
        await asyncio.sleep(0.01)  # long beside a look into the store

    asyncio.run(test())


def test_options_say_which_rewards_and_how_many_rollouts(tmp_path: Path) -> None:
    done = decant(lines(tmp_path, CHAT), "--reward", "brevity", "--rollouts", "4")
    assert done.stdout.splitlines()[-1] == "1 of 1 prompts have 4 rollouts of brevity"
    with served() as api:
        for decoding, count in (({"reward": "brevity", "rollouts": 4}, 3), ({"reward": "brevity"}, 3 + COUNT)):
            body = {**CHAT, "decoding": {**BEST, **decoding}}
            assert drawn(ok(api.post("chat/completions", body))) == count
        assert drawn(ok(api.post("chat/completions", {**CHAT, "decoding": {**BEST, "rollouts": 4}}))) == 3 + 4
