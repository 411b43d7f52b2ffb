"""Keys that are added, revoked, expired or misspelt in the file of a server that runs."""

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server import cli
from server.loading import toy
from server.runtime import key_ring
from tests.http.test_auth import BODY, add, bearer
from tests.support.serving import Api, ok, refused, serving, until


def command(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["keys", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def status(api: Api, key: str) -> int:
    return api.post("completions", BODY, headers=bearer(key)).status_code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def reloads(api: Api, outcome: str) -> float:
    return api.metric("decant_key_reloads_total", outcome=outcome)


def test_keys_are_added_and_revoked_within_two_seconds(file: Path) -> None:
    ann = add(file, "ann")
    with serving(toy(), api_keys_file=file) as api:
        assert status(api, ann) == 200
        bob = add(file, "bob")
        began = time.monotonic()
        until(lambda: status(api, bob) == 200)
        command("revoke", "ann", "--file", str(file))
        until(lambda: status(api, ann) == 401)
        assert time.monotonic() - began < 4
        assert status(api, bob) == 200
        assert reloads(api, "ok") >= 2
        assert reloads(api, "failed") == 0


def test_the_last_key_revoked_leaves_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "INTERVAL", 0.0)
    ann = add(file, "ann")
    with serving(toy(), api_keys_file=file) as api:
        command("revoke", "ann", "--file", str(file))
        assert status(api, ann) == 401


@pytest.mark.parametrize("content", ["", "\n", "ann is not a line\n", None], ids=repr)
def test_a_file_that_cannot_be_used_leaves_the_keys(
    file: Path, content: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_ring, "INTERVAL", 0.0)
    ann = add(file, "ann")
    good = file.read_text()
    with serving(toy(), api_keys_file=file) as api, caplog.at_level(logging.INFO):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        assert [status(api, ann) for _ in range(3)] == [200, 200, 200]
        assert reloads(api, "failed") >= 1
        assert [r.levelname for r in caplog.records if "stay as they were" in r.message] == ["ERROR"]
        assert ann not in caplog.text
        file.write_text(good.replace("ann", "eve"))
        assert status(api, ann) == 200
        assert reloads(api, "ok") == 1


def test_a_change_that_leaves_times_and_size_is_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system's clock ticks every few milliseconds: two changes may have one time."""
    monkeypatch.setattr(key_ring, "INTERVAL", 0.0)
    stamp = key_ring._stamp
    ann, bob = add(file, "ann"), add(file, "bob")
    with serving(toy(), api_keys_file=file) as api:
        os.utime(file)
        fixed = stamp(file)
        monkeypatch.setattr(key_ring, "_stamp", lambda _: fixed)
        assert status(api, ann) == 200
        command("revoke", "ann", "--file", str(file))
        assert status(api, ann) == 401
        assert status(api, bob) == 200


def test_an_expired_key_is_refused_from_its_time_on(file: Path) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    key = command("add", "ann", "--file", str(file), "--expires", soon.isoformat()).strip()
    other = add(file, "bob")
    with serving(toy(), api_keys_file=file) as api:
        assert status(api, key) == 200
        until(lambda: status(api, key) == 401)
        assert datetime.now(UTC) >= soon
        error = refused(api.post("completions", BODY, headers=bearer(key)), 401)
        assert (error["code"], error["message"]) == ("invalid_api_key", "This key has expired.")
        ok(api.post("completions", BODY, headers=bearer(other)))


def test_a_stream_that_has_begun_outlives_its_key(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "INTERVAL", 0.0)
    ann = add(file, "ann")
    with serving(toy(), api_keys_file=file) as api:
        body = {**BODY, "stream": True, "max_tokens": 4}
        with api.http.stream("POST", "/v1/completions", json=body, headers=bearer(ann)) as response:
            command("revoke", "ann", "--file", str(file))
            assert status(api, ann) == 401
            assert response.read().endswith(b"data: [DONE]\n\n")
