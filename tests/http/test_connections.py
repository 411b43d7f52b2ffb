"""What a peer may hold of a server, and how slow it may be: real sockets against a server of the toy."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from decoders.testing import WatchedPolicy
from server.loading import toy
from tests.support.serving import PATIENCE, Api, serving, until

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
BODY = b'{"prompt": "good", "max_tokens": 1}'
REQUEST = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
SHORT = 0.2  # seconds


@contextmanager
def served(**limits: Any) -> Iterator[Api]:
    with serving(toy(), connections=limits) as api:
        yield api


def connect(api: Api, *, receive_buffer: int | None = None) -> socket.socket:
    port = int(api.url.rsplit(":", 1)[1])
    peer = socket.socket()
    if receive_buffer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(PATIENCE)
    peer.connect(("127.0.0.1", port))
    return peer


def read(peer: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    got = b""
    try:
        while data := peer.recv(2**16):
            got += data
    except ConnectionResetError:
        pass
    return got


def answer(peer: socket.socket) -> tuple[int, Any]:
    """The status and the JSON of an answer, after which the server closes."""
    head, _, body = read(peer).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def answers(peer: socket.socket, count: int) -> list[bytes]:
    """So many answers, after which the connection stays open."""
    got = b""
    while got.count(b"HTTP/1.1 200 OK") < count or not got.endswith(b"}"):
        data = peer.recv(2**16)
        assert data, got
        got += data
    return got.split(b"HTTP/1.1 200 OK")[1:]


def closed(api: Api, reason: str) -> float:
    return api.metric("decant_connections_closed_total", reason=reason)


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET", HEAD], ids=repr)
def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    with served(head_timeout_s=SHORT) as api, connect(api) as peer:
        peer.sendall(sent)
        got = read(peer)
        assert b"408 Request Timeout" in got
        assert json.loads(got.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "slow_head"
        assert closed(api, "slow_head") == 1


def test_bytes_that_begin_no_request_do_not_keep_a_connection() -> None:
    with served(head_timeout_s=SHORT) as api, connect(api) as peer:
        peer.sendall(REQUEST)
        answers(peer, 1)
        peer.sendall(b"\r\n")
        assert answer(peer)[1]["error"]["code"] == "slow_head"


def send_on(peer: socket.socket, piece: bytes, seconds: float = 0.0) -> None:
    """Send the same again and again, until the server has closed."""
    end = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            peer.sendall(piece)
            time.sleep(seconds)
    except OSError:
        return
    raise AssertionError("the server takes it all")


def test_a_head_a_byte_at_a_time_ends_the_connection() -> None:
    with served(head_timeout_s=SHORT) as api, connect(api) as peer:
        peer.sendall(HEAD)
        send_on(peer, b"a", 0.02)
        assert closed(api, "slow_head") == 1


@pytest.mark.parametrize("piece", [b"x-more: " + b"a" * 2000 + b"\r\n", b"a" * 2000], ids=["headers", "header"])
def test_a_head_without_an_end_is_refused(piece: bytes) -> None:
    with served(max_head_bytes=2**14) as api, connect(api) as peer:
        peer.sendall(HEAD + (b"" if piece.endswith(b"\n") else b"x-long: "))
        send_on(peer, piece)
        assert closed(api, "large_head") == 1


def test_a_large_head_is_told_so() -> None:
    with served(max_head_bytes=2**14) as api, connect(api) as peer:
        peer.sendall(HEAD + b"x-long: " + b"a" * 2**14)
        status, error = answer(peer)
        assert (status, error["error"]["code"]) == (431, "large_head")
        assert "16384 bytes" in error["error"]["message"]


def test_what_is_no_http_is_told_so() -> None:
    with served() as api, connect(api) as peer:
        peer.sendall(b"\x16\x03\x01 hello\r\n\r\n")  # as a client of https begins
        status, error = answer(peer)
        assert (status, error["error"]["code"]) == (400, "malformed")
        assert closed(api, "malformed") == 1


@pytest.mark.parametrize("sent", [b"", BODY[:9]], ids=["none", "a part"])
def test_a_body_that_does_not_come_ends_the_request(sent: bytes) -> None:
    with served(body_timeout_s=SHORT) as api, connect(api) as peer:
        peer.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + sent)
        status, error = answer(peer)
        assert (status, error["error"]["code"]) == (408, "slow_body")
        assert closed(api, "slow_body") == 1
        api.rest()


def test_a_refused_body_is_not_awaited_for_ever() -> None:
    with served(body_timeout_s=SHORT, keep_alive_s=PATIENCE) as api, connect(api) as peer:
        peer.sendall(HEAD.replace(b"application/json", b"text/plain") + b"content-length: 999999\r\n\r\n{")
        assert b" 415 " in read(peer).split(b"\r\n")[0]
        assert closed(api, "slow_body") == 1


def test_a_body_that_ends_after_its_refusal_is_no_head() -> None:
    with served(max_head_bytes=2**12, keep_alive_s=SHORT) as api, connect(api) as peer:
        body = b"a" * 2**15
        head = HEAD.replace(b"application/json", b"text/plain") + b"content-length: %d\r\n\r\n" % len(body)
        peer.sendall(head + body[:1])
        got = b""
        while not got.endswith(b"}}"):
            got += peer.recv(2**16)
        assert b" 415 " in got.split(b"\r\n")[0]
        peer.sendall(body[1:])
        time.sleep(SHORT / 4)
        peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert read(peer).startswith(b"HTTP/1.1 200 OK")
        assert closed(api, "large_head") == 0


def test_an_answer_that_is_not_read_ends_the_connection() -> None:
    with served(stalled_timeout_s=SHORT) as api, connect(api, receive_buffer=4096) as peer:
        body = json.dumps({"prompt": ["good"] * 128, "max_tokens": 9, "n": 32, "logprobs": 5, "temperature": 1.5})
        for _ in range(8):  # as many answers as fill the buffers of the kernel and the server
            peer.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body.encode())
        until(lambda: closed(api, "stalled") == 1)
        api.rest()  # no sequence is held


def test_an_idle_connection_is_closed_after_its_time() -> None:
    with served(keep_alive_s=SHORT) as api, connect(api) as peer:
        peer.sendall(REQUEST)
        started = time.monotonic()
        assert read(peer).startswith(b"HTTP/1.1 200 OK")
        assert time.monotonic() - started >= SHORT


def test_a_request_that_takes_long_is_not_idle() -> None:
    """Nor is one whose head had begun when an earlier one was being answered."""
    limits = {"head_timeout_s": SHORT, "body_timeout_s": SHORT, "keep_alive_s": SHORT, "stalled_timeout_s": SHORT}
    held = threading.Event()

    async def wait() -> None:
        await asyncio.to_thread(held.wait)

    loaded = toy()
    loaded.models = replace(loaded.models, policy=WatchedPolicy(inner=loaded.models.policy, before=wait))
    with serving(loaded, connections=limits) as api, connect(api) as peer:
        peer.sendall(REQUEST + REQUEST[:70])
        time.sleep(3 * SHORT)
        peer.sendall(REQUEST[70:])
        held.set()
        assert [b"choices" in one for one in answers(peer, 2)] == [True, True]


def test_requests_one_after_another_are_answered_in_order() -> None:
    with served(head_timeout_s=5.0) as api, connect(api) as peer:
        for _ in range(3):
            peer.sendall(REQUEST * 2)
            assert [b"choices" in one for one in answers(peer, 2)] == [True, True]


def test_a_peer_has_so_many_connections() -> None:
    with served(max_per_peer=2) as api:
        api.http.close()
        with connect(api), connect(api), connect(api) as third:
            status, error = answer(third)
            assert (status, error["error"]["code"]) == (503, "per_peer")


def test_a_connection_that_waits_makes_room() -> None:
    with served(max_connections=3) as api:
        api.http.close()
        with connect(api) as first, connect(api), connect(api), connect(api) as fourth:
            fourth.sendall(REQUEST)
            assert b"choices" in answers(fourth, 1)[0]
            assert read(first) == b""
