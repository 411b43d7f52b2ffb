"""The client's names of parameters that strategies and engines name in their own terms.

A strategy calls its own parameters `strategy.PARAMETER`, a sampling parameter `sampling.PARAMETER`. The client wrote
`decoding.PARAMETER`, and perhaps another word for the sampling parameter: `response_format` or `regex` for a grammar,
`echo` for the prompt's log-probabilities.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from decoders.errors import InvalidRequest

ClientNames = Callable[[InvalidRequest], InvalidRequest]


class Named(Protocol):
    """A request body that knows its own words."""

    @property
    def strategy_prefix(self) -> str:
        """The path of the strategy's parameters in the body, such as "decoding."."""

    @property
    def sampling_fields(self) -> dict[str, str]:
        """The body's names of those sampling parameters that it names otherwise."""


def as_sent(error: InvalidRequest, body: Named) -> InvalidRequest:
    """Return the error with its field as the client wrote it."""
    owner, _, name = (error.field or "").partition(".")
    match owner:
        case "strategy":
            return InvalidRequest(str(error), body.strategy_prefix + name)
        case "sampling":
            return InvalidRequest(str(error), body.sampling_fields.get(name, name))
    return error


@contextmanager
def clients_words(body: Named) -> Iterator[None]:
    """Raise an `InvalidRequest` of the work inside with its field as the client wrote it."""
    try:
        yield
    except InvalidRequest as error:
        raise as_sent(error, body) from error
