"""The server's log: one line of text or JSON for each record, with the request's id and without its texts."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from server.settings import LogSettings
from server.telemetry import request_info
from server.telemetry.log_setup import filters
from tests.support.command import Command, serve_toy

ID = "x-request-id"
JSON = {"content-type": "application/json"}
SECRETS = ("swordfish", "quetzal", "good", "bad", "plain", "odd")  # the toy draws the last four
ID_OF_32 = re.compile("[0-9a-f]{32}")  # may have "bad" in it
WORDS = re.compile("[a-z]+", re.IGNORECASE)
PRELUDE = """
from server import loading
from decoders.testing import ToyPolicy
from tests.support.fakes import world

class Quoting:
    async def score(self, prompt, completions):
        if not prompt.tokens or not completions:  # the warm-up's
            return [0.0 for _ in completions]
        raise ValueError(f"cannot read {prompt.text} {completions[0].text} bad") from KeyError(prompt.text)

class Broken(ToyPolicy):
    async def sample(self, prompt, *args, **kwargs):
        if "quetzal" in prompt.text:
            raise RuntimeError(f"a bug at {prompt.text}")
        async for item in ToyPolicy.sample(self, prompt, *args, **kwargs):
            yield item

loading.toy = lambda settings=None: world(Broken(), {"default": Quoting()})
"""
BEST = {"strategy": "best_of_n", "n": 2}
BODIES: tuple[Mapping[str, Any], ...] = (
    {"prompt": "swordfish good"},
    {"prompt": "swordfish good", "stream": True},
    {"prompt": "swordfish bad", "decoding": BEST},  # the reward quotes it
    {"prompt": "swordfish bad", "decoding": BEST, "stream": True},
    {"prompt": "quetzal bad"},  # a bug quotes it
    {"prompt": "quetzal bad", "stream": True},
    {"prompt": "swordfish", "swordfish": 1},
    {"prompt": ["swordfish", 1]},
    {"prompt": "swordfish", "stop": {"swordfish": "good"}},
    {"prompt": "good", "model": "swordfish"},
    {"prompt": "good", "decoding": {"strategy": "swordfish"}},
    {"prompt": "good", "user": "swordfish", "max_tokens": "swordfish"},
)


def ask(server: Command) -> list[str]:
    """Send all bodies; return the ids of the responses."""
    with httpx.Client(base_url=server.url) as client:
        answers = [client.post("/v1/completions", json=body) for body in BODIES]
        answers.append(client.post("/v1/completions", content=b'{"prompt": "swordfish', headers=JSON))
        answers.append(client.post("/v1/rewards", json={"prompt": "swordfish", "completions": ["quetzal"]}))
        answers.append(client.post("/tokenize", json={"prompt": "swordfish"}))
        answers.append(client.get("/v1/models?swordfish=good"))
    assert {answer.status_code for answer in answers} == {200, 400, 404, 500, 502}
    return [answer.headers[ID] for answer in answers]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_has_a_word_of_a_prompt_or_a_completion(form: str) -> None:
    with serve_toy({"DECANT_LOGS__FORMAT": form}, PRELUDE) as server:
        ids = ask(server)
        server.stop()
    assert "ValueError" in server.stderr
    assert "The reward 'default' failed: it raised ValueError" in server.stderr
    assert "RuntimeError" in server.stderr
    assert "raise RuntimeError" not in server.stderr, "the code of `-c` has no lines to show"
    assert set(WORDS.findall(ID_OF_32.sub("", server.stderr))).isdisjoint(SECRETS)
    assert [one for one in ids if one not in server.stderr] == []


def test_texts_are_logged_where_the_settings_ask_for_them() -> None:
    with serve_toy({"DECANT_LOGS__TEXTS": "true"}, PRELUDE) as server:
        ask(server)
        server.stop()
    assert "cannot read swordfish" in server.stderr
    assert "a bug at quetzal" in server.stderr


def test_every_line_of_json_is_an_object_and_those_of_a_request_have_its_id() -> None:
    with serve_toy({"DECANT_LOGS__FORMAT": "json"}, PRELUDE) as server:
        ids = ask(server)
        server.stop()
    lines = [json.loads(line) for line in server.stderr.splitlines()]
    assert all({"time", "level", "logger", "message", "request_id"} <= line.keys() for line in lines)
    written = {line["request_id"]: line for line in lines if line["logger"] == "decant.access"}
    access = [written.pop(one) for one in ids]  # a line may follow the first one of the next request
    assert not written, "one line for each request"
    first, *_ = access
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/completions", 200)
    assert (first["strategy"], first["model"], first["error"]) == ("sample", "toy", None)
    assert first["answer"] == f"cmpl-{ids[0]}"
    assert first["seconds"] > 0 < first["bytes"]
    assert [line["status"] for line in access] == [
        200,
        200,
        502,
        502,
        500,
        500,
        400,
        400,
        400,
        404,
        400,
        400,
        400,
        502,
        200,
        200,
    ]
    assert access[2]["error"] == "RewardFailed"
    assert access[4]["error"] == "RuntimeError"
    assert access[-1]["path"] == "/v1/models"
    warned = [line for line in lines if line["level"] in ("WARNING", "ERROR")]
    assert {line["request_id"] for line in warned} == {ids[2], ids[3], ids[4], ids[5], ids[13]}
    assert all("traceback" in line for line in warned if line["level"] == "ERROR")


def test_the_access_log_can_be_off_and_the_level_raised() -> None:
    with serve_toy({"DECANT_LOGS__ACCESS": "false"}) as server:
        httpx.get(f"{server.url}/healthz")
        server.stop()
    assert "healthz" not in server.stderr
    assert "draining" in server.stderr
    with serve_toy({"DECANT_LOGS__LEVEL": "warning"}) as server:
        httpx.get(f"{server.url}/healthz")
        server.stop()
    assert "healthz" not in server.stderr
    assert "draining" not in server.stderr


def test_what_a_path_has_cannot_forge_a_line() -> None:
    with serve_toy({}) as server:
        httpx.get(f"{server.url}/v1/reports/a%0AINFO decant.access: forged")
        server.stop()
    assert "\nINFO decant.access: forged" not in server.stderr
    assert "/v1/reports/a%0AINFO%20decant.access:%20forged 404" in server.stderr


def test_an_exception_outside_of_requests_keeps_its_message() -> None:
    record = logging.makeLogRecord(
        {"name": "decant", "msg": "no answer: %s", "args": (ValueError("connection refused"),)}
    )
    assert all(own.filter(record) for own in filters(LogSettings()))
    assert record.getMessage() == "no answer: connection refused"


def test_groups_and_causes_of_exceptions_are_shown_without_messages() -> None:
    request_info.enter(None)
    try:
        try:
            raise KeyError("swordfish")
        except KeyError as error:
            raise ExceptionGroup("swordfish", [ValueError("swordfish")]) from error
    except ExceptionGroup as group:
        record = logging.makeLogRecord({"name": "decant", "msg": "failed", "exc_info": (type(group), group, None)})
    assert all(own.filter(record) for own in filters(LogSettings()))
    written = logging.Formatter().format(record)
    assert [name for name in ("KeyError", "ExceptionGroup", "ValueError", __file__) if name not in written] == []
    assert written.count("swordfish") == 3, "the lines of code above, and no message"
