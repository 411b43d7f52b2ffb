"""The requests that are being answered, and how a server that shuts down ends them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from decoders.errors import DecantError
from server.errors import Overloaded
from server.runtime.admission import Admission

LAST_WORDS = 5.0  # seconds in which a request that the shutdown ended may still send its error


class Stoppable(Protocol):
    """A request that is being answered."""

    def stop(self, error: DecantError) -> None:
        """End the work, and send `error` to the client."""


class RunningRequests:
    """The set of requests that are being answered."""

    def __init__(self) -> None:
        self._requests: set[Stoppable] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def idle(self) -> bool:
        return self._idle.is_set()

    @contextmanager
    def include(self, request: Stoppable) -> Iterator[None]:
        """Count `request` as running inside the `with` block."""
        self._requests.add(request)
        self._idle.clear()
        try:
            yield
        finally:
            self._requests.discard(request)
            if not self._requests:
                self._idle.set()

    async def drain(self, admission: Admission, seconds: float) -> None:
        """Refuse new requests, wait for the running ones, and after `seconds` end those that are left with an error."""
        admission.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for request in tuple(self._requests):
                request.stop(Overloaded("The server shut down before this request was done.", "draining", 5))
            with suppress(TimeoutError):  # a client that does not read must not keep the server from ending
                async with asyncio.timeout(LAST_WORDS):
                    await self._idle.wait()
