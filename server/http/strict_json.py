"""JSON into Python's values, within limits, each key of an object once.

A small text can ask for a lot of memory: `[{},{},...]` needs 21 bytes for each of its own. So what a text holds is
counted before it is parsed. Most texts pass by four counts of a byte, which take commas and brackets inside strings
for JSON's; only where those are too many, the structure is counted without what stands inside strings.
"""

import re
from typing import Any

import jiter

from decoders.errors import InvalidRequest
from server.settings import BodyLimits

PIECE = 2**14  # bytes that are counted in one go: other threads wait so long, under a millisecond
_STRUCTURE = b'"[]{},:'
_OTHERS = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_STRING = re.compile(rb'"[^"]*"?')


def read_json(text: bytes, limits: BodyLimits) -> Any:
    """Return the value of a JSON text. Raises `InvalidRequest` for what is over a limit or no JSON."""
    opened, commas, colons = text.count(b"{") + text.count(b"["), text.count(b","), text.count(b":")
    if opened > limits.max_objects or opened + commas > limits.max_values or colons > limits.max_fields:
        _check_size(text, limits)
    try:
        value = jiter.from_json(text, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error
    if opened > limits.max_depth or colons > limits.max_object_fields:
        _check_shape(value, limits)
    return value


def _check_size(text: bytes, limits: BodyLimits) -> None:
    """Raise `InvalidRequest` if a text holds too many objects, fields or values.

    The counts are right up to the first byte that is no JSON, where the parser stops too.
    """
    inside = False  # whether a piece begins inside a string
    escape = b""  # the backslash at a piece's end, whose meaning is in the next one
    opened = commas = colons = 0
    for start in range(0, len(text), PIECE):
        piece = (escape + text[start : start + PIECE]).replace(b"\\\\", b"")
        escape = b"\\" if piece.endswith(b"\\") else b""
        piece = piece.removesuffix(escape).replace(b'\\"', b"").translate(None, _OTHERS)
        structure = _STRING.sub(b"", b'"' + piece if inside else piece)
        inside ^= piece.count(b'"') % 2 == 1
        opened += structure.count(b"{") + structure.count(b"[")
        commas += structure.count(b",")
        colons += structure.count(b":")
        for found, limit, what in (
            (opened, limits.max_objects, "lists and objects"),
            (opened + commas, limits.max_values, "values"),
            (colons, limits.max_fields, "fields"),
        ):
            if found > limit:
                raise InvalidRequest(f"The body has over {limit} {what}, this server's limit.")


def _check_shape(value: Any, limits: BodyLimits) -> None:
    """Raise `InvalidRequest` for an object with too many fields, and for lists and objects too deep in one another."""
    level = [value]
    for _ in range(limits.max_depth):
        inner = []
        for one in level:
            if isinstance(one, dict):
                if len(one) > limits.max_object_fields:
                    message = f"An object of the body has over {limits.max_object_fields} fields, this server's limit."
                    raise InvalidRequest(message)
                inner += [value for value in one.values() if isinstance(value, dict | list)]
            elif isinstance(one, list):
                inner += [value for value in one if isinstance(value, dict | list)]
        level = inner
    if level:
        raise InvalidRequest(f"The body has over {limits.max_depth} levels of lists and objects, this server's limit.")
