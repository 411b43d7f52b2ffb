"""`decant calibrate`: the store is filled ahead, so that requests draw no rollouts of their own."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from decoders.core import Candidate, Prompt
from decoders.models import Models
from server import loading
from server.calibration.filling import calibrate
from server.calibration.store import CalibrationStore
from server.cli import app
from server.engines.toy import ToyReward
from server.http.request_file import policy_prompts, read_bodies
from server.http.schemas.completions import CompletionsBody
from server.loading import Loaded
from server.settings import Settings
from server.settings.reading import read_settings
from tests.support.fakes import world
from tests.support.serving import Api, Json, events, ok, refused, serving
from tests.support.watched import WatchedPolicy

COMPLETIONS: Json = {"prompt": ["good", "good bad"], "max_tokens": 8}
CHAT: Json = {"messages": [{"role": "user", "content": "good bad"}]}
BEST: Json = {"strategy": "best_of_n", "n": 3, "calibrated": True}
ONLY_STORED: Json = {**BEST, "on_demand": False}
COUNT = 6


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "rollouts.db"
    monkeypatch.setenv("DECANT_CALIBRATION__STORE", str(path))
    monkeypatch.setenv("DECANT_CALIBRATION__ROLLOUTS", str(COUNT))
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")  # the command sets it, and would leave it set
    return path


def lines(tmp_path: Path, *bodies: object) -> Path:
    """A file with a line for each body; what is text already stays as it is."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(f"{b if isinstance(b, str) else json.dumps(b)}\n" for b in bodies), encoding="utf-8")
    return file


def decant(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", str(file), "--toy", *options])


def settings() -> Settings:
    return read_settings(policy={"model": "toy"})


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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "EOF while parsing"),
        ("good", "expected value"),
        ('{"prompt": "good", "temperature": NaN}', "expected value"),
        ("5", "The body: Input should be a JSON object."),
        ({}, "prompt: Field required."),
        ({"prompt": "good", "n": 0}, "n: Input should be greater than or equal to 1."),
        ({"prompt": "good", "zip": 1}, "zip: There is no such field."),
        ({"prompt": "good", "tools": [{}]}, "'tools' is not supported: no tools are called."),
        ({"prompt": ""}, "The prompt is empty."),
        ({"prompt": "odd " * 70}, "The prompt has 70 tokens"),
        ({"prompt": "good", "max_tokens": 64}, "max_tokens asks for 64 more"),
        ({"prompt": ["good", "bad"], "top_p": 0.5}, "does not support 'top_p'."),
        ({"prompt": [1, 5]}, "Token ids [5] are outside the vocabulary"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "x", "content": "good"}]}, "messages.0.role: Input should be 'system'"),
        ({**CHAT, "prompt": "good"}, "prompt: There is no such field."),
        ({**CHAT, "max_completion_tokens": 64}, "max_completion_tokens asks for 64 more"),
        ({"prompt": "good", "decoding": {"strategy": "best_of_n", "n": 0}}, "decoding.n: Input should be greater"),
    ],
)
def test_a_line_that_is_no_request_is_named_and_nothing_is_drawn(
    tmp_path: Path, store: Path, line: object, words: str
) -> None:
    done = decant(lines(tmp_path, {"prompt": "good"}, "", line, {"prompt": "bad"}))
    assert done.exit_code == 2
    assert done.stderr.startswith("decant: ")
    assert "line 3: " in done.stderr
    assert words in done.stderr
    with closing(sqlite3.connect(store)) as database:
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        assert tables == (0,) or database.execute("SELECT count(*) FROM rollouts").fetchone() == (0,)


def test_a_line_ends_where_json_has_it_end(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    words = "good\u2028bad\x85odd"
    file.write_bytes(f'{{"prompt": "{words}"}}\r\n{{"prompt":\t"good"}}'.encode())
    bodies = read_bodies(file)
    assert [(number, body.prompt) for number, body in bodies if isinstance(body, CompletionsBody)] == [
        (1, words),
        (2, "good"),
    ]


@pytest.mark.parametrize("content", [b"", b"\n \n", b'{"prompt": "\xff"}\n', None])
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    done = decant(file)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"decant: {file}: ")


def test_without_a_store_it_says_where_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DECANT_CALIBRATION__STORE")
    done = decant(lines(tmp_path, CHAT))
    assert done.exit_code == 2
    assert done.stderr == ("decant: say where to keep rollouts: calibration.store, or DECANT_CALIBRATION__STORE\n")


def test_a_store_that_is_no_database_is_refused(tmp_path: Path, store: Path) -> None:
    store.write_text("not a database. " * 100)
    done = decant(lines(tmp_path, CHAT))
    assert done.exit_code == 2
    assert f"decant: calibration.store: cannot use {store}: " in done.stderr


def test_a_reward_that_is_not_loaded_is_named_with_those_that_are(tmp_path: Path) -> None:
    done = decant(lines(tmp_path, CHAT), "--reward", "default", "--reward", "zip")
    assert done.exit_code == 2
    assert done.stderr == "decant: The reward 'zip' is not loaded. Loaded rewards: brevity, default.\n"


def test_without_rewards_there_is_nothing_to_calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "toy", lambda _: world(rewards={}))
    done = decant(lines(tmp_path, CHAT))
    assert done.exit_code == 2
    assert "there is no reward to calibrate" in done.stderr
