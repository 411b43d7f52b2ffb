"""The policy on another server. This file imports no vLLM."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Elsewhere(Protocol):
    """An engine that another server runs, which may be away for a while."""

    async def reachable(self) -> bool:
        """Return whether the server answers within a second."""

    async def aclose(self) -> None:
        """Close the connections to it."""
