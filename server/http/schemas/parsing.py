"""Parsing JSON into a request body, by the same rules for every route.

A null inside an object counts as a field that was not sent. JSON has one kind of number, so 3.0 is the integer 3.
Nothing else is converted: "3" is a string, and true is not a number.
"""

from typing import Any, TypeVar

from pydantic import ValidationError

from server.http.schemas.common import Addressed
from server.http.schemas.renamed_fields import with_todays_names
from server.http.schemas.validation_errors import invalid_body

SIMPLE = (int, str)
EXACT = 2**53  # from here on, floats skip integers
# Nulls in a JSON schema have a meaning: {"const": null}.
VERBATIM = (
    ("response_format", "json_schema", "schema"),
    ("structured_outputs", "json"),
    ("tools", "function", "parameters"),
    ("response_format", "format"),
    ("response_format", "structures"),
    ("chat_template_kwargs",),
)

Parsed = TypeVar("Parsed", bound=Addressed)


def parse(kind: type[Parsed], data: object) -> Parsed:
    """Return `data`, as read from JSON, as a body. Raises `InvalidRequest`, which names the field."""
    sent, warnings = with_todays_names(plain(data))
    try:
        body = kind.model_validate(sent, strict=True)
    except ValidationError as error:
        raise invalid_body(error, sent) from error
    body._warnings = warnings
    return body


def plain(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Return `value` without its objects' nulls, and with whole numbers as integers; `path` is its place."""
    if path in VERBATIM:
        return value
    if isinstance(value, dict):
        return {k: plain(v, (*path, k)) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [item if type(item) in SIMPLE else plain(item, path) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value
