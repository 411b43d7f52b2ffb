"""A file of request bodies, one a line as it would be POSTed: what `decant calibrate` reads."""

from collections.abc import Sequence
from pathlib import Path

from decoders.core import Prompt, Sampling
from decoders.errors import DecantError
from decoders.parts.rollouts import frozen_policy
from server.engines.text import Text
from server.http.prompts import encode_prompts
from server.http.schemas.chat import ChatBody
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.parsing import parse
from server.http.strict_json import read_json
from server.runtime.checks import check_length, check_min_tokens
from server.settings import BodyLimits

Bodies = Sequence[tuple[int, ChatBody | CompletionsBody]]
"""Bodies, each with the number of its line."""


class RequestFileError(Exception):
    """The file cannot be read, or a line of it is not a request; the message says which and why."""


def read_bodies(path: Path, limits: BodyLimits | None = None) -> list[tuple[int, ChatBody | CompletionsBody]]:
    """Return the bodies of a file with their line numbers; blank lines are skipped. Raises `RequestFileError`."""
    limits = limits or BodyLimits()
    bodies: list[tuple[int, ChatBody | CompletionsBody]] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also split at U+2028 within a string
    except (OSError, UnicodeDecodeError) as error:
        raise RequestFileError(f"{path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data: object = read_json(line.encode(), limits)
            chat = isinstance(data, dict) and "messages" in data
            bodies.append((number, parse(ChatBody, data) if chat else parse(CompletionsBody, data)))
        except (ValueError, DecantError) as error:
            raise RequestFileError(f"{path}, line {number}: {error}") from error
    if not bodies:
        raise RequestFileError(f"{path}: there is no request in it")
    return bodies


async def policy_prompts(bodies: Bodies, text: Text) -> list[tuple[int, Prompt, Sampling]]:
    """Return every prompt of the bodies, with its line and how the frozen policy is sampled for a request like it.

    Raises `RequestFileError` for a prompt that a server would refuse.
    """
    found: list[tuple[int, Prompt, Sampling]] = []
    for number, body in bodies:
        try:
            for prompt in await encode_prompts(body, text):
                sampling = frozen_policy(body.sampling(prompt, text.max_model_len))
                check_length(prompt, sampling, text, "prompt", body.length_field)
                check_min_tokens(sampling)
                text.check(sampling)
                found.append((number, prompt, sampling))
        except DecantError as error:
            raise RequestFileError(f"line {number}: {error}") from error
    return found
