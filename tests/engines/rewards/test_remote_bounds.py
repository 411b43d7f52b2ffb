"""What a reward of kind `http` reads of a server that sends too much, compressed, elsewhere, or a byte at a time."""

import asyncio
import gzip
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from decoders.errors import RewardFailed, RewardTimeout
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.remote_reward import RemoteReward
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.settings import HttpReward
from tests.support.remote_judge import pair
from tests.support.serving import PATIENCE

Send = Callable[[asyncio.StreamWriter], Awaitable[None]]
MIB = 2**20
FINE = b'{"data": [{"index": 0, "probs": [2.5]}]}'


class Peer:
    """A server that sends what `send` writes, and counts the bytes that were taken."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.asked: list[bytes] = []
        self.left = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        with suppress(ConnectionError):
            await self._send(writer)
            await writer.drain()
        self.left.set()
        writer.close()


@asynccontextmanager
async def serving(send: Send) -> AsyncIterator[tuple[Peer, str]]:
    peer = Peer(send)
    async with await asyncio.start_server(peer.answer, "127.0.0.1", 0) as server:
        yield peer, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/classify"


async def ask(url: str, **settings: Any) -> list[float]:
    remote = RemoteReward(HttpReward(url=url, **settings))
    try:
        return await remote.score([pair("a", "b")])
    finally:
        await remote.aclose()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await asyncio.wait_for(test(), PATIENCE)

    asyncio.run(within())


def head(status: str, **fields: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def endless(status: str) -> Send:
    """Chunks without an end."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, transfer_encoding="chunked"))
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()

    return send


def whole(body: bytes, status: str = "200 OK", **fields: str) -> Send:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, content_length=str(len(body)), **fields) + body)

    return send


@pytest.mark.parametrize(
    ("status", "words"),
    [("200 OK", "more than `max_reply_bytes`, 1048576 bytes"), ("500 No", "answered 500:   ")],
)
def test_an_endless_answer_is_left(status: str, words: str) -> None:
    async def test() -> None:
        async with serving(endless(status)) as (peer, url):
            with pytest.raises(RewardFailed, match=words):
                await ask(url, retries=0)
            await peer.left.wait()

    run(test)


def test_the_settings_say_how_long_an_answer_may_be() -> None:
    async def test() -> None:
        async with serving(whole(FINE)) as (_, url):
            assert await ask(url, max_reply_bytes=len(FINE)) == [2.5]
            with pytest.raises(RewardFailed, match=f"`max_reply_bytes`, {len(FINE) - 1} bytes"):
                await ask(url, max_reply_bytes=len(FINE) - 1)

    run(test)


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
def test_a_compressed_answer_was_not_asked_for_and_is_not_unpacked(status: str) -> None:
    bomb = gzip.compress(bytes(256 * MIB), 9)
    assert len(bomb) < MIB / 2

    async def test() -> None:
        async with serving(whole(bomb, status, content_encoding="gzip")) as (peer, url):
            before = peak()
            with pytest.raises(RewardFailed, match=r"content-encoding gzip|answered 500"):
                await ask(url, retries=0)
            assert peak() - before < 64 * MIB
            assert b"accept-encoding: identity\r\n" in peer.asked[0].lower()

    run(test)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_an_answer_of_nothing_but_brackets_is_no_reward() -> None:
    async def test() -> None:
        async with serving(whole(b"[" * MIB)) as (_, url):
            with pytest.raises(RewardFailed, match="something else than rewards"):
                await ask(url)

    run(test)


def test_a_redirect_is_not_followed() -> None:
    async def test() -> None:
        async with (
            serving(whole(FINE)) as (other, elsewhere),
            serving(whole(b"", "307 Temporary Redirect", location=elsewhere)) as (_, url),
        ):
            with pytest.raises(RewardFailed, match="answered 307"):
                await ask(url)
            assert other.asked == []

    run(test)


def test_an_answer_that_comes_byte_by_byte_takes_no_longer_than_the_timeout() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", content_length="1000000"))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def test() -> None:
        async with serving(drip) as (peer, url):
            remote = RemoteReward(HttpReward(url=url, timeout_s=0.3))
            reward = RewardWithTimeout("far", Batcher(remote.score, 64, 0.3), 0.3)
            prompt, completion = pair("a", "b")
            with pytest.raises(RewardTimeout):
                await reward.score(prompt, [completion])
            await peer.left.wait()
            await remote.aclose()

    run(test)
