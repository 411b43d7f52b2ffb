"""The server's log: lines of text or of JSON on stderr."""

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from server.settings import LogSettings
from server.telemetry.private_logs import RequestId, WithoutTexts

ACCESS = "decant.access"


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time of each line: who runs the command in a process may put it back."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Text(logging.Formatter):
    """`LEVEL logger: message [request id]`, and a traceback below it."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        message = super().formatMessage(record)
        request = getattr(record, "request_id", None)
        return message if request is None else f"{message} [{request}]"


def set_up(settings: LogSettings) -> None:
    """Write every logger's lines to stderr, as the settings say."""
    handler = _Stderr()
    handler.setFormatter(_json() if settings.format == "json" else _Text())
    for own in filters(settings):
        handler.addFilter(own)
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    show_access(settings)


def filters(settings: LogSettings) -> Sequence[logging.Filter]:
    """Return what each record passes."""
    return (RequestId(),) if settings.texts else (RequestId(), WithoutTexts())


def show_access(settings: LogSettings) -> None:
    """Switch the access log on or off."""
    logging.getLogger(ACCESS).setLevel(logging.NOTSET if settings.access else logging.WARNING)


def _json() -> logging.Formatter:
    return JsonFormatter(
        "{asctime}{levelname}{name}{message}{request_id}",
        style="{",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "traceback"},
        json_ensure_ascii=False,
    )
