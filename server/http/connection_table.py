"""The connections of a server: how many there are, of whom, and which of them only wait."""

from collections import Counter
from typing import Literal, Protocol

from server.settings import ConnectionLimits

Refusal = Literal["full", "per_peer"]


class Connection(Protocol):
    """One connection, as the table knows it."""

    def evict(self) -> None:
        """Close it: another one needs its place."""


class ConnectionTable:
    """Admits connections up to `max_connections`, and up to `max_per_peer` of one address.

    A connection without a request costs nothing but its place. So when all places are taken, the one that has waited
    longest for its next request gives up its own: clients that connect and send nothing, however many, keep nobody out.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[Connection, str] = {}
        self._peers: Counter[str] = Counter()
        self._waiting: dict[Connection, None] = {}  # the one that waits longest first

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, peer: str) -> Refusal | None:
        """Take a connection in, as one that waits for its first request, or return why it has no place."""
        if 0 < self._limits.max_per_peer <= self._peers[peer]:
            return "per_peer"
        if len(self._open) >= self._limits.max_connections:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return "full"
            self.remove(longest)
            longest.evict()
        self._open[connection] = peer
        self._peers[peer] += 1
        self._waiting[connection] = None
        return None

    def waits(self, connection: Connection) -> None:
        """Note that a connection waits for a request, from now on."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def works(self, connection: Connection) -> None:
        """Note that a connection has a request."""
        self._waiting.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is there."""
        self._waiting.pop(connection, None)
        peer = self._open.pop(connection, None)
        if peer is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
