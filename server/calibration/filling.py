"""`decant calibrate`: the calibration store filled ahead of the requests that will ask for it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from decoders.core import Prompt, Sampling
from decoders.errors import DecantError, InvalidRequest
from decoders.models import Models
from decoders.parts.rollouts import frozen_policy, rollouts
from decoders.rng import SeededRng
from server.http.schemas.chat import ChatBody
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.parsing import parse
from server.loading import Loaded
from server.runtime.service import Service

Tick = Callable[[], None]
Bodies = Sequence[tuple[int, ChatBody | CompletionsBody]]


class PromptsError(Exception):
    """A line of the file is not a request; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A prompt whose rollouts could not be had."""

    line: int
    why: str


def read(path: Path) -> list[tuple[int, ChatBody | CompletionsBody]]:
    """Request bodies, one a line as it would be POSTed, with their line numbers. Raises `PromptsError`."""
    bodies: list[tuple[int, ChatBody | CompletionsBody]] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # no other break: JSON may hold them
    except (OSError, UnicodeDecodeError) as error:
        raise PromptsError(f"{path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        data: object = None
        try:
            data = from_json(line, allow_inf_nan=False)
            chat = isinstance(data, dict) and "messages" in data
            bodies.append((number, parse(ChatBody, data) if chat else parse(CompletionsBody, data)))
        except (ValueError, DecantError) as error:
            raise PromptsError(f"{path}, line {number}: {error}") from error
    if not bodies:
        raise PromptsError(f"{path}: there is no request in it")
    return bodies


async def prompts(loaded: Loaded, bodies: Bodies) -> list[tuple[int, Prompt, Sampling]]:
    """Each prompt of each body, with how a request like it samples, and its line. Raises `PromptsError`."""
    text, service = loaded.text, Service(loaded)
    found: list[tuple[int, Prompt, Sampling]] = []
    for number, body in bodies:
        try:
            if isinstance(body, ChatBody):
                own = [await text.chat([m.plain() for m in body.messages], body.turn)]
            else:
                own = [await text.encode(p) if isinstance(p, str) else _given(loaded, p) for p in body.prompts]
            for prompt in own:
                sampling = frozen_policy(body.sampling(prompt, text.max_model_len))
                service.check_length(prompt, sampling, "prompt", body.length_field)
                service.check_minimum(sampling)
                text.check(sampling)
                found.append((number, prompt, sampling))
        except DecantError as error:
            raise PromptsError(f"line {number}: {error}") from error
    return found


def _given(loaded: Loaded, tokens: Sequence[int]) -> Prompt:
    """A prompt of token ids. Raises `InvalidRequest`."""
    wrong = [t for t in tokens if t >= loaded.text.vocab_size]
    if wrong:
        raise InvalidRequest(f"Token ids {wrong[:5]} are outside the vocabulary.", "prompt")
    return loaded.text.given(tokens)


async def calibrate(
    models: Models,
    work: Sequence[tuple[int, Prompt, Sampling]],
    rewards: Sequence[str],
    count: int,
    width: int,
    tick: Tick,
) -> list[Failure]:
    """See that the store has `count` rollouts of each prompt for each of `rewards`, `width` prompts at a time.

    What is there already is not drawn again. A prompt that fails is reported, and the others go on.
    """
    assert models.calibration is not None
    places = asyncio.Semaphore(width)
    failures: list[Failure] = []

    async def one(line: int, prompt: Prompt, sampling: Sampling) -> None:
        async with places:
            try:
                await rollouts(prompt, count, models, rewards, sampling, SeededRng(), on_demand=True)
            except DecantError as error:
                failures.append(Failure(line, str(error)))
            tick()

    await asyncio.gather(*(one(*item) for item in work))
    return sorted(failures, key=lambda failure: failure.line)
