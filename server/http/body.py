"""The body of a request: read from the connection, parsed, and meant for the model that is served."""

from typing import Any, TypeVar

from pydantic_core import from_json
from starlette.requests import Request

from decoders.errors import InvalidRequest
from server.errors import BodyTooLarge
from server.http.preset_choice import HEADER, PresetChoice
from server.http.schemas.common import Addressed, Body
from server.http.schemas.parsing import parse

MAX_BODY = 16 * 2**20  # bytes: more than the longest context of any model, as JSON

Parsed = TypeVar("Parsed", bound=Addressed)


async def read_body(request: Request, kind: type[Parsed], choice: PresetChoice) -> Parsed:
    """Return the request's body as a `kind`, with the preset that it asks for.

    Raises `InvalidRequest`, `BodyTooLarge`, `UnknownModel`.
    """
    data = await read_json(request)
    if isinstance(data, dict) and issubclass(kind, Body):
        data = choice.with_preset(data, request.headers.get(HEADER))
    body = parse(kind, data)
    choice.check_model(body.model)
    return body


async def read_json(request: Request) -> Any:
    """Return the request's body, read as JSON. Raises `InvalidRequest`, `BodyTooLarge`."""
    raw = await _read(request)
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise BodyTooLarge(f"The body is over {MAX_BODY} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)
