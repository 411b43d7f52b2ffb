"""`decant calibrate` refuses what it cannot use, says where it is, and draws nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server import loading
from server.http.request_file import read_bodies
from server.http.schemas.completions import CompletionsBody
from tests.support.calibrate_command import decant, lines
from tests.support.fakes import world
from tests.support.serving import Json

pytestmark = pytest.mark.usefixtures("store")

COMPLETIONS: Json = {"prompt": ["good", "good bad"], "max_tokens": 8}
CHAT: Json = {"messages": [{"role": "user", "content": "good bad"}]}


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
        ({"prompt": "good", "tools": [{}]}, "'tools' is not supported: tools are called in /v1/chat/completions"),
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
