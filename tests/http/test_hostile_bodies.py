"""Bodies that are large or wrong on purpose: a short refusal, while the server answers others and needs no memory."""

import json
from collections.abc import Iterator
from itertools import cycle, islice

import pytest

from tests.support.probing import Probed, Seen, probed

SIZE = 14 * 2**20  # bytes
SILENCE = 0.1  # seconds
MEMORY = 100  # MB
TRIES = 3  # the peak of memory depends on when what is read meets what is parsed


def repeated(before: str, *items: str, after: str, size: int = SIZE) -> bytes:
    """Return a list of the items again and again, up to a size, with text before and after it."""
    count = size * len(items) // (sum(map(len, items)) + len(items))
    return (before + ",".join(islice(cycle(items), count)) + after).encode()


def fields(count: int) -> bytes:
    return ("{" + ",".join(f'"f{i}":{i}' for i in range(count)) + "}").encode()


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = '{"role":"user","content":'
PROSE = json.dumps({"prompt": 'So-it-goes,{he_said}and[she]"laughed";\\ ' * (15 * 10**6 // 43)}).encode()
NEST = 100_000

HOSTILE = {
    "messages of nothing": (CHAT, repeated('{"messages":[', "{}", after="]}"), "over 32768 lists and objects"),
    "parts of nothing": (CHAT, repeated(f'{{"messages":[{USER}[', "{}", after="]}]}"), "over 32768 lists and objects"),
    "unknown fields": (TEXT, fields(850_000), "over 65536 fields"),
    "tokens and texts": (TEXT, repeated('{"prompt":[', "1", '""', after="]}"), "over 524288 values"),
    "texts": (TEXT, repeated('{"prompt":[', '"a"', after="]}"), "over 524288 values"),
    "token lists": (TEXT, repeated('{"prompt":[', "[1]", after="]}"), "over 32768 lists and objects"),
    "brackets": (TEXT, b"[" * SIZE, "over 32768 lists and objects"),
    "depth": (TEXT, b'{"prompt":' + b"[" * 1000 + b"]" * 1000 + b"}", "recursion limit"),
    "backslashes": (TEXT, b'{"zip":"' + b"\\\\" * (SIZE // 2) + b'"' + b",1" * 40000 + b"}", "not JSON"),
    "escaped quotes": (TEXT, b'{"prompt":"' + b'\\",[aaaaaaaaaaaaaaa ' * (SIZE // 20) + b'"}', "tokens; with"),
    "digits": (TEXT, b'{"seed":' + b"9" * SIZE + b"}", "number out of range"),
    "a long name of a model": (TEXT, b'{"prompt":"good","model":"' + b"a" * SIZE + b'"}', "is not served here"),
    "a long name of a field": (TEXT, b'{"prompt":"good","' + b"a" * SIZE + b'":1}', "There is no such field"),
    # What is just within the limits.
    "32,000 messages of nothing": (CHAT, b'{"messages":[' + b"{}," * 32000 + b"{}]}", "messages.0"),
    "32,000 parts of nothing": (
        CHAT,
        f'{{"messages":[{USER}['.encode() + b"{}," * 32000 + b"{}]}]}",
        "messages.0.content.0",
    ),
    "65,000 unknown fields": (TEXT, fields(65_000), "over 4096 fields"),
    "4,000 unknown fields": (TEXT, fields(4_000), "prompt: Field required"),
    "500,000 tokens and texts": (TEXT, b'{"prompt":[' + b'1,"",' * 250_000 + b"1]}", "prompt.1"),
    "500,000 texts": (TEXT, b'{"prompt":[' + b'"a long text",' * 500_000 + b'""]}', "500001 prompts are over"),
    "500,000 tokens": (TEXT, b'{"prompt":[' + b"1," * 500_000 + b"1]}", "The prompt has 500001 tokens"),
    "a prompt of 15 MB": (TEXT, PROSE, "tokens; with at least one to come"),
    "a chat of 15 MB": (CHAT, PROSE.replace(b'{"prompt": ', f'{{"messages":[{USER}'.encode()) + b"]}", "tokens; with"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Probed]:
    with probed() as server:
        yield server


def within_bounds(seen: Seen) -> bool:
    return seen.silence < SILENCE and seen.memory < MEMORY


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_body_is_refused_and_holds_nobody_up(server: Probed, case: str) -> None:
    path, body, said = HOSTILE[case]
    for _ in range(TRIES):
        seen = server.post(path, body)
        assert seen.status == (404 if case == "a long name of a model" else 400), seen.body[:1000]
        assert said in json.loads(seen.body)["error"]["message"]
        assert len(seen.body) < 20_000
        if within_bounds(seen):
            return
    raise AssertionError(f"silent for {seen.silence:.3f} s, {seen.memory:.0f} MB")
