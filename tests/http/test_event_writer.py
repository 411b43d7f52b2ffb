"""A streamed answer and its comments, for a client that reads slowly."""

import asyncio
from typing import Any

import pytest

from decoders.core import Candidate, Prompt
from decoders.events import Cost, Done, Result, ScoredCandidate, Step
from decoders.sample import Sample
from server.http.answer import AnswerSpec
from server.http.event_writer import EventWriter
from server.http.openai_format import CompletionFormat
from server.http.schemas.common import StreamOptions

DONE = b"data: [DONE]\n\n"


class SlowClient:
    """Takes its time over the end of a stream."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def send(self, message: Any) -> None:
        if message.get("body") == DONE or message.get("more_body") is False:
            await asyncio.sleep(0.1)
        self.bodies.append(message.get("body", b""))


def test_no_comment_comes_between_the_answer_and_its_end_or_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.event_writer.HEARTBEAT", 0.01)
    prompt, answer = Prompt((1,), "good"), Candidate((1,), " odd", "stop")
    client = SlowClient()

    async def run() -> None:
        spec = AnswerSpec(CompletionFormat(echo=False, top=None), "toy", [prompt], 1, "sample", Sample(), reports=False)
        writer = EventWriter(client.send, spec, StreamOptions())
        async with writer.writing():
            await writer.write(0, Step(answer, 0))
            await writer.write(0, Done((Result(ScoredCandidate(answer)),), Cost()))
            await asyncio.sleep(0.05)
            await writer.finish(0.0)
            await asyncio.sleep(0.05)

    asyncio.run(run())
    *before, chunk, done, end = client.bodies
    assert any(body.startswith(b": sample has worked") for body in before)
    assert chunk.startswith(b": \n\ndata: {")  # parted from the comment, for clients that strip what they read
    assert (done, end) == (DONE, b"")
