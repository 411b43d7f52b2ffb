"""The body of a request: read from the connection, parsed, and meant for the model that is served."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from server.errors import BodyTooLarge, UnsupportedMediaType
from server.http.preset_choice import HEADER, PresetChoice
from server.http.schemas.common import Addressed, Body
from server.http.schemas.parsing import parse
from server.http.strict_json import read_json
from server.runtime.state import ServerState

INLINE = 2**16  # bytes; a longer body is parsed and validated in a thread, beside the event loop

Parsed = TypeVar("Parsed", bound=Addressed)


class BodyReader:
    """Reads the bodies that a server's routes ask for. Raises `InvalidRequest`, `BodyTooLarge`, ..."""

    def __init__(self, state: ServerState) -> None:
        self._limits = state.settings.body_limits
        self._threads = state.body_threads
        self._choice = PresetChoice(state.presets, state.model)

    async def read(self, request: Request, kind: type[Parsed]) -> Parsed:
        """Return the request's body as a `kind`, with the preset that it asks for.

        Raises `UnknownModel` for one that is meant for another model.
        """
        preset = request.headers.get(HEADER)

        def parsed(raw: bytes) -> Parsed:
            data = read_json(raw, self._limits)
            if isinstance(data, dict) and issubclass(kind, Body):
                data = self._choice.with_preset(data, preset)
            body = parse(kind, data)
            self._choice.check_model(body.model)
            return body

        return await self._read(request, parsed)

    async def read_as_sent(self, request: Request, kind: type[Parsed]) -> Parsed:
        """Return the request's body as a `kind`, whatever model it names."""
        return await self._read(request, lambda raw: parse(kind, read_json(raw, self._limits)))

    async def _read(self, request: Request, parsed: Callable[[bytes], Parsed]) -> Parsed:
        _check_media_type(request)
        raw = await _whole(request, self._limits.max_bytes)
        if len(raw) <= INLINE:
            return parsed(raw)
        return await asyncio.get_running_loop().run_in_executor(self._threads, parsed, raw)


def _check_media_type(request: Request) -> None:
    """Raise `UnsupportedMediaType` for what is not declared to be JSON.

    Browsers let any web page send the types of forms and texts to any server, and ask that server before they send
    JSON. So a page cannot use a server without keys that its reader's machine can reach.
    """
    sent = request.headers.get("content-type", "")
    kind = sent.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        named = f"'{sent}'" if sent else "missing"
        raise UnsupportedMediaType(f"The Content-Type is {named}: send application/json.")


async def _whole(request: Request, limit: int) -> bytes:
    """Return the bytes of a body. Raises `BodyTooLarge`, before they are read where their number is declared."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > limit:
        raise BodyTooLarge(f"The body is over {limit} bytes.")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"The body is over {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)
