"""Writers of a request's answer as one JSON body."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, nullcontext

from starlette.responses import Response
from starlette.types import Message, Send

from decoders.events import Done, Event
from server.http.answer import Answer, AnswerSpec
from server.http.errors import error_response
from server.http.json_response import json_response
from server.http.report_headers import report_headers


class JsonWriter(ABC):
    """Sends one body when all runs have ended."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ends: dict[int, Done] = {}

    def writing(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def write(self, index: int, event: Event) -> None:
        if isinstance(event, Done):
            self._ends[index] = event

    async def finish(self, queued: float) -> None:
        await send_response(self._response(queued), self._send)

    async def fail(self, error: Exception) -> None:
        await send_response(error_response(error), self._send)

    @abstractmethod
    def _response(self, queued: float) -> Response:
        """Return the answer, of a request that waited `queued` seconds for admission."""


class AnswerWriter(JsonWriter):
    """Sends a completion or chat completion."""

    def __init__(self, send: Send, spec: AnswerSpec) -> None:
        super().__init__(send)
        self._answer = Answer(spec, self._ends)

    def _response(self, queued: float) -> Response:
        answer = self._answer
        report = answer.report(queued)
        shown = {"decoding": report} if answer.spec.reports else {}
        body = answer.spec.format.answer(answer.choices(), **answer.head, usage=answer.usage(), **shown)
        return json_response(body, headers=report_headers(report))


async def send_response(response: Response, send: Send) -> None:
    """Send a response that has its whole body."""
    await response({"type": "http"}, _no_receive, send)


async def _no_receive() -> Message:
    raise AssertionError("a response with a known body reads nothing")
