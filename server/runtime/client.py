"""Who sends a request: the holder of a key, and what the key allows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds on all requests of a client together; None where there is no bound."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Tokens of prompts, and generated ones, discarded candidates included."""
    sequences: int | None = None
    """Sequences that its requests may draw at the same time."""
    strategies: frozenset[str] | None = None
    """The names of the strategies that it may ask for."""


@dataclass(frozen=True, slots=True)
class Client:
    """The holder of a key; on a server without keys all requests are of one client, whose name is "".

    `weight` is its share of the server among the clients that wait, relative to theirs.
    """

    name: str = ""
    weight: float = 1.0
    limits: ClientLimits = ClientLimits()


ANYONE = Client()
