"""The client's names of parameters that strategies and engines name in their own terms.

A strategy calls its own parameters `strategy.PARAMETER`, and those of sampling `sampling.PARAMETER`. The client wrote
`decoding.PARAMETER`, and perhaps another word for the sampling parameter: `response_format` or `regex` for a grammar,
`echo` for the prompt's log-probabilities.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from decoders.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class ClientFields:
    """Where a body has the strategy's parameters, and its names of sampling parameters where these differ."""

    strategy: str
    sampling: Mapping[str, str] = field(default_factory=dict)

    def as_sent(self, error: InvalidRequest) -> InvalidRequest:
        """Return the error with its field as the client wrote it."""
        owner, _, name = (error.field or "").partition(".")
        match owner:
            case "strategy":
                return InvalidRequest(str(error), self.strategy + name)
            case "sampling":
                return InvalidRequest(str(error), self.sampling.get(name, name))
        return error

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise an `InvalidRequest` of the work inside with its field as the client wrote it."""
        try:
            yield
        except InvalidRequest as error:
            raise self.as_sent(error) from error
