"""What is known of the request that the running code works for: its log lines and its spans say it."""

import re
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from decoders.events import Done

HEADER = "x-request-id"
_GIVEN = re.compile(r"[\w.:=+@-]{1,128}", re.ASCII)  # what can stand in a header, a path and a log line as it is


@dataclass(slots=True)
class RequestInfo:
    """One request, as the parts of the server that it passes learn of it; empty where a part was not reached."""

    id: str
    client: str = ""
    """The name of its key."""
    operation: str = ""
    """What it asks for, in OpenTelemetry's words for generative AI where these have one."""
    model: str = ""
    strategy: str = ""
    answer: str = ""
    """The `id` of the answer."""
    input_tokens: int = 0
    output_tokens: int = 0
    """Those of the returned answers."""
    generated_tokens: int = 0
    """Discarded candidates included."""
    scored_tokens: int = 0
    candidates: int = 0
    finish_reasons: list[str] = field(default_factory=list)
    error: str = ""
    """The type of the error that ended it."""

    def add(self, prompt_tokens: int, done: Done) -> None:
        """Count one prompt's run, which has ended."""
        self.input_tokens += prompt_tokens
        self.output_tokens += sum(len(result.candidate.tokens) for result in done.results)
        self.generated_tokens += done.cost.generated_tokens
        self.scored_tokens += done.cost.scored_tokens
        self.candidates += done.cost.candidates
        self.finish_reasons += (str(result.candidate.finish) for result in done.results)


_CURRENT: ContextVar[RequestInfo | None] = ContextVar("decant_request", default=None)


def enter(given: str | None) -> RequestInfo:
    """Start what is known of a request in this context, which is the request's own.

    Args:
        given: The id that the client sent. It is taken if it is at most 128 letters, digits and `._:=+@-`, so that it
            cannot forge a line of the log or a header; otherwise the request gets a new one.
    """
    taken = given is not None and _GIVEN.fullmatch(given) is not None
    info = RequestInfo(given if taken and given else uuid.uuid4().hex)
    _CURRENT.set(info)
    return info


def current() -> RequestInfo | None:
    """Return what is known of the request that the running code works for, or None outside of any."""
    return _CURRENT.get()


def request_info() -> RequestInfo:
    """Return the same; outside of any request, one that is thrown away."""
    return _CURRENT.get() or RequestInfo(uuid.uuid4().hex)
