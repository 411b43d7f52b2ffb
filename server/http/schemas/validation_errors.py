"""Pydantic's validation errors as `InvalidRequest`, with the field as the client wrote it."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from decoders.errors import InvalidRequest

TAGS = ("strategy", "by", "kind")  # the fields that say which member of a union an object is


def invalid_body(error: ValidationError, body: object) -> InvalidRequest:
    """Return pydantic's findings about a body as one error, which names the field of the first finding.

    Pydantic has a finding for each member of a union that a value does not fit. The finding with the longest path
    counts: its member fits the value best, so it is probably the one that the client meant.
    """
    findings = [(_path(finding, body), finding) for finding in error.errors(include_url=False)]
    start = findings[0][0]
    path = max((path for path, _ in findings if path[: len(start)] == start), key=len)
    here = [finding for other, finding in findings if other == path]
    here = [finding for finding in here if not finding["type"].endswith("_type")] or here
    first, *others = dict.fromkeys(_message(finding) for finding in here)
    message = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    if not path:
        return InvalidRequest(f"The body: {message}.")
    field = ".".join(path)
    return InvalidRequest(f"{field or repr(field)}: {message}.", field)  # a field's name may be empty, too


def _message(finding: ErrorDetails) -> str:
    match finding["type"]:
        case "extra_forbidden":
            return "There is no such field"
        case "union_tag_not_found":
            return "Field required"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "Input should be a JSON object"
    return finding["msg"].removeprefix("Value error, ")


def _path(finding: ErrorDetails, body: object) -> tuple[str, ...]:
    """Return the path of a finding in the body, without the names of union members that pydantic adds to it."""
    path: list[str] = []
    here = body
    entered = False  # whether `here` may be a union, whose member's name would come next
    for i, part in enumerate(finding["loc"]):
        if entered and isinstance(here, Mapping) and part in (here.get(tag) for tag in TAGS):
            entered = False
            continue
        entered = isinstance(part, str) and isinstance(here, Mapping) and isinstance(here.get(part), Mapping)
        lacks = finding["type"] == "missing" and i == len(finding["loc"]) - 1
        if isinstance(here, Mapping) and (part in here or lacks):
            path.append(str(part))
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            path.append(str(part))
            here = here[part]
    if finding["type"].startswith("union_tag_"):
        path.append(str(finding["ctx"]["discriminator"]).strip("'"))
    return tuple(path)
