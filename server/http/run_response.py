"""An ASGI response that runs a job and sends its answer, for as long as the client stays."""

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.runtime.request_runner import RequestRunner, Writer


class RunResponse(Response):
    """Runs a request with a writer that is bound to the client's connection."""

    def __init__(self, runner: RequestRunner, writer: Callable[[Send], Writer]) -> None:
        # The base class would render a body here.
        self._runner = runner
        self._writer = writer
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        watch = asyncio.create_task(_abandon_when_left(receive, self._runner))
        try:
            await self._runner.run(self._writer(send))
        finally:
            watch.cancel()


async def _abandon_when_left(receive: Receive, runner: RequestRunner) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    runner.abandon()
