"""Running the app in uvicorn: it drains before it stops, and stops by itself when an engine dies."""

import asyncio
import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from server.http.app import create_app
from server.http.connection_table import ConnectionTable
from server.http.host_gate import HostGate, allowed_hosts
from server.http.limited_protocol import limited
from server.http.open_files import within_open_files
from server.http.operations_server import OperationsServer
from server.loading import Loaded
from server.runtime.connection_metrics import ConnectionMetrics
from server.runtime.presets import Presets
from server.runtime.state import ServerState
from server.settings import ServerSettings

log = logging.getLogger("decant")
WATCH = 1.0  # seconds between looks at the engines


class Server(uvicorn.Server):
    """A uvicorn server that lets running requests end before it stops.

    While it drains it still listens: /readyz answers 503, so that a load balancer sends requests elsewhere, and new
    requests are refused with 503 instead of a closed port.

    Args:
        started: called with the server's address once it listens.
    """

    def __init__(
        self, loaded: Loaded, settings: ServerSettings, started: Callable[[str], None], presets: Presets | None = None
    ) -> None:
        app = create_app(loaded, settings, presets)
        names = allowed_hosts(settings)
        if names is not None:
            app.add_middleware(HostGate, names=names)
        state: ServerState = app.state.server
        limits = within_open_files(settings.connections)
        table = ConnectionTable(limits)
        metrics = ConnectionMetrics(state.metrics.registry, lambda: len(table))
        self._limited = limited(limits, table, metrics.closed)
        super().__init__(
            uvicorn.Config(
                app,
                **self._limited,
                host=settings.host,
                port=settings.port,
                log_config=None,  # the command has set the log up
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=5,
                lifespan="off",
            )
        )
        self.state = state
        self._settings = settings
        self._started = started
        self.engine_died = False
        self.operations: OperationsServer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._settings.operations_port is not None:
            self.operations = OperationsServer(self.state, self._settings, self._limited)
            await self.operations.open()
        await super().startup(sockets)
        gc.freeze()  # a full collection need not look at all that was loaded, while requests wait
        if self.started:
            host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
            self._started(f"http://{host}:{self.servers[0].sockets[0].getsockname()[1]}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM.

        Uvicorn's own method raises the signal again at the end, which would end the process before the engines are
        shut down.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("draining for up to %g s", self._settings.drain_timeout_s)
        draining = asyncio.create_task(self._drain(self._settings.drain_timeout_s))
        while not draining.done():
            await asyncio.wait((draining,), timeout=0.1)
            if self.force_exit:  # a second Ctrl-C
                await self._drain(0)
        await super().shutdown(sockets)
        if self.operations is not None:
            await self.operations.close()
        await self.state.aclose()
        gc.unfreeze()  # what stays frozen to the end, compiled modules report as leaked

    async def _drain(self, seconds: float) -> None:
        await self.state.running.drain(self.state.admission, seconds)

    async def watch(self) -> None:
        """Stop the server once an engine is dead, so that a supervisor starts it again."""
        while True:
            await asyncio.sleep(WATCH)
            dead = [name for name, up in self.state.loaded.up().items() if not up]
            if dead:
                log.error("the %s engine has died: stopping", ", ".join(dead))
                self.engine_died = True
                self.should_exit = True
                return


async def serve(
    loaded: Loaded, settings: ServerSettings, started: Callable[[str], None], presets: Presets | None = None
) -> bool:
    """Serve until a signal or the death of an engine; return False if an engine died.

    Args:
        started: called with the server's address once it listens.
    """
    server = Server(loaded, settings, started, presets)
    watch = asyncio.create_task(server.watch())
    try:
        await server.serve()
    finally:
        watch.cancel()
        await loaded.aclose()
    return not server.engine_died
