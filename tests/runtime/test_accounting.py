"""The accounting log and the metrics of keys: each request that ended, once, with what it used."""

import json
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from decoders.testing import ToyReward
from server.loading import toy
from server.runtime import accounting
from server.runtime.accounting import AccountingLog
from server.settings import SettingsError
from tests.http.test_key_limits import BEST, PLAIN, key
from tests.support.fakes import HeldPolicy, world
from tests.support.serving import PATIENCE, Json, ok, refused, serving, speaking, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounting.jsonl"


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ignore(count: int) -> None:
    raise AssertionError(f"{count} lines are lost")


def test_each_request_that_ended_has_a_line(tmp_path: Path, path: Path) -> None:
    file = tmp_path / "keys"
    ann, bob = key(file), key(file, "--sequences", "1", name="bob")
    with serving(toy(), api_keys_file=file, accounting_log=path) as api:
        plain = ok(api.post("completions", {**PLAIN, "stream": False}, headers=ann))["usage"]
        best = ok(api.post("completions", {**BEST, "model": "toy"}, headers={**ann, "x-request-id": "r-2"}))["usage"]
        ok(api.post("rewards", {"prompt": "good", "completions": ["bad", "odd odd"]}, headers=ann))
        ok(api.http.post("/classify", json={"input": ["good", "bad bad"], "model": "brevity"}, headers=ann))
        refused(api.post("completions", BEST, headers=bob), 400)
        refused(api.post("completions", {"zip": 1}, headers=ann), 400)  # never became work: no line
        until(lambda: len(lines(path)) == 5)
        shared = {"key": "ann", "outcome": "ok", "model": "toy"}
        expected: list[dict[str, Any]] = [
            {**shared, "strategy": "sample", "prompt_tokens": 1, "generated_tokens": plain["completion_tokens"]},
            {**shared, "strategy": "best_of_n", "prompt_tokens": 1, "generated_tokens": best["completion_tokens"]}
            | {"request_id": "r-2"},
            {**shared, "strategy": "rewards", "prompt_tokens": 4, "generated_tokens": 0},
            {**shared, "strategy": "classify", "model": "brevity", "prompt_tokens": 3, "generated_tokens": 0},
            {**shared, "key": "bob", "outcome": "invalid", "strategy": "best_of_n", "prompt_tokens": 0},
        ]
        found = lines(path)
        for line, own in zip(found, expected, strict=True):
            assert line.items() >= own.items()
            assert datetime.fromisoformat(line["time"]).utcoffset() is not None
            assert 0 < line["seconds"] < 30
            assert line["request_id"]
        assert [line["sequences"] for line in found] == [1, 4, 2, 2, 4]
        assert [line["reward_calls"] for line in found] == [0, 4, 1, 2, 0]
        used = api.metric("decant_key_tokens_total", key="ann", kind="generated")
        assert used == plain["completion_tokens"] + best["completion_tokens"]
        assert api.metric("decant_key_tokens_total", key="ann", kind="prompt") == 9
        assert api.metric("decant_key_requests_total", key="ann", outcome="ok") == 4
        assert api.metric("decant_key_requests_total", key="bob", outcome="invalid") == 1
        text = path.read_text() + api.http.get("/metrics").text
        for headers in (ann, bob):
            assert headers["Authorization"].split()[1] not in text


def test_a_client_that_leaves_has_a_line(path: Path) -> None:
    policy = HeldPolicy()
    with serving(world(policy, {"default": ToyReward()}), accounting_log=path) as api:
        with speaking(api, "completions", PLAIN):
            until(lambda: policy.opened > 0)
        until(lambda: len(lines(path)) == 1)
        assert lines(path)[0].items() >= {"key": None, "outcome": "cancelled", "prompt_tokens": 1}.items()
        assert not [sample for sample in api.metrics() if "key" in sample.labels]


def test_the_last_lines_are_written_when_the_server_stops(path: Path) -> None:
    with serving(toy(), accounting_log=path) as api:
        for _ in range(20):
            api.complete()
    assert len(lines(path)) == 20


def test_names_of_keys_are_on_the_page_before_they_are_used(tmp_path: Path) -> None:
    key(tmp_path / "keys")
    with serving(toy(), api_keys_file=tmp_path / "keys") as api:
        assert {sample.labels["key"] for sample in api.metrics() if "key" in sample.labels} == {"ann"}


def test_a_file_that_is_moved_away_is_made_again(path: Path) -> None:
    log = AccountingLog(path, ignore)
    log.write({"n": 1})
    until(lambda: len(lines(path)) == 1)
    moved = path.rename(path.with_suffix(".1"))
    log.write({"n": 2})
    log.close()
    assert (lines(moved), lines(path)) == ([{"n": 1}], [{"n": 2}])


def test_lines_that_cannot_be_written_are_counted_and_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    log = AccountingLog(path, lost.append)
    path.unlink()
    path.mkdir()
    for n in (1, 2):
        log.write({"n": n})
        until(lambda: sum(lost) == n)  # noqa: B023
    path.rmdir()
    log.write({"n": 3})
    log.close()
    assert lines(path) == [{"n": 3}]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_line_that_was_torn_by_a_full_disk_ends_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, lost, full = os.write, list[int](), [False]

    def some(handle: int, data: memoryview) -> int:
        if threading.current_thread().name != "accounting":
            return write(handle, data)
        if full[0]:
            raise OSError(28, "No space left on device")
        if bytes(data).startswith(b'{"n": 1'):
            full[0] = True
            return write(handle, data[:4])
        return write(handle, data)

    log = AccountingLog(path, lost.append)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", some)
        log.write({"n": 1})
        until(lambda: lost == [1])
    log.write({"n": 2})
    log.close()
    assert path.read_text() == '{"n"\n{"n": 2}\n'


def test_a_log_that_does_not_keep_up_loses_lines_and_no_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "MAX_WAITING", 2)
    write, lost, written = os.write, list[int](), threading.Event()

    def slow(handle: int, data: memoryview) -> int:
        if threading.current_thread().name != "accounting":
            return write(handle, data)
        assert written.wait(PATIENCE)
        return write(handle, data)

    log = AccountingLog(path, lost.append)
    monkeypatch.setattr(os, "write", slow)
    for n in range(10):
        log.write({"n": n})
    assert len(lost) >= 10 - 1 - 2 - 2  # a batch of at most three is being written, and two lines wait
    written.set()
    log.close()
    assert len(lines(path)) == 10 - len(lost)


def test_a_log_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        AccountingLog(tmp_path / "no" / "log", ignore)
