"""Log records without what a client sent or a model drew.

Messages of Decant's own quote no text. The messages of exceptions may: a reward function's, another server's, a bug's.
"""

import logging
import sqlite3
import traceback

from decoders.errors import EngineDead, PublicRewardFailure, RewardFailed
from server.errors import Overloaded, RequestTimeout
from server.telemetry.request_info import current

# The messages of these have no text of a request.
QUOTE_NOTHING = (EngineDead, PublicRewardFailure, Overloaded, RequestTimeout, OSError, sqlite3.Error)
HIDDEN = "its message may quote a text: `logs.texts: true` shows it"


class RequestId(logging.Filter):
    """Gives each record the id of the request that its line is about, as `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            info = current()
            record.request_id = None if info is None else info.id
        return True


class ShowsId(logging.Filter):
    """Puts the id into the message, for a formatter that does not know `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "request_id", None) is not None:
            record.msg, record.args = f"{record.getMessage()} [{record.request_id}]", ()  # type: ignore[attr-defined]
        return True


class WithoutTexts(logging.Filter):
    """Takes the messages of exceptions out of a record. Their types, and the lines of code, stay.

    Decant's own lines keep them where no request is being answered, as at a start: then there is no client's text.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "decant" and current() is None:
            return True
        if isinstance(record.args, tuple):
            record.args = tuple(_safe(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = "\n".join(_lines(record.exc_info[1]))
            record.exc_info = None
        return True


def _safe(error: BaseException) -> object:
    """Return what a line may say of an exception."""
    if isinstance(error, QUOTE_NOTHING):
        return error
    said = (error.public if isinstance(error, RewardFailed) else None) or type(error).__name__
    return f"{said} ({HIDDEN})"


def _lines(error: BaseException, depth: int = 0) -> list[str]:
    """Return a traceback without messages, the causes first."""
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < 8:
        lines += [*_lines(cause, depth + 1), "", "which led to:", ""]
    lines.append("Traceback (most recent call last):")
    lines += [line.rstrip("\n") for line in traceback.format_tb(error.__traceback__)]
    said = f": {error}" if isinstance(error, QUOTE_NOTHING) else f" ({HIDDEN})"
    lines.append(f"{type(error).__qualname__}{said}")
    if isinstance(error, BaseExceptionGroup) and depth < 8:
        for inner in error.exceptions:
            lines += ["", "of which one is:", "", *_lines(inner, depth + 1)]
    return lines
