"""A second port for those who run the server: metrics and documentation, away from clients."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from server.http.base_app import App
from server.http.routes import operations
from server.runtime.state import ServerState
from server.settings import ServerSettings


def operations_app(state: ServerState) -> App:
    """Return the app of the second port."""
    app = App(docs=state.settings.docs)
    app.include_router(operations.router(state, metrics=state.settings.metrics))
    return app


class OperationsServer(uvicorn.Server):
    """Listens at `operations_port` from `open` to `close`; signals are the main server's."""

    def __init__(self, state: ServerState, settings: ServerSettings, limited: Mapping[str, Any]) -> None:
        """Args:
        limited: arguments of `uvicorn.Config` that limit connections.
        """
        host = settings.host if settings.operations_host is None else settings.operations_host
        super().__init__(
            uvicorn.Config(
                operations_app(state),
                **limited,
                host=host,
                port=settings.operations_port or 0,
                log_config=None,  # the command has set the log up
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=1,
                lifespan="off",
            )
        )
        self._opened = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    async def open(self) -> None:
        """Return once it listens."""
        self._work = asyncio.create_task(self.serve())
        opened = asyncio.create_task(self._opened.wait())
        await asyncio.wait((self._work, opened), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()

    async def close(self) -> None:
        """Stop listening."""
        self.should_exit = True
        if self._work is not None:
            await self._work

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._opened.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
