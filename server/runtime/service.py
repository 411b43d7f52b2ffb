"""What the app holds: the loaded models, who may use them, and what is measured of it."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from decoders.core import Prompt, Sampling
from decoders.errors import DecantError, EngineDead, InvalidRequest
from decoders.events import Cost
from decoders.parts.budget import Budget
from server.errors import BodyTooLarge, Overloaded, UnknownModel
from server.http.errors import response
from server.http.schemas.common import Addressed
from server.http.schemas.parsing import parse
from server.loading import Loaded
from server.runtime.admission import Admission
from server.runtime.metrics import Metrics
from server.settings import ServerSettings

MAX_BODY = 16 * 2**20  # bytes: more than the longest context of any model, as JSON
LAST_WORDS = 5.0  # seconds that a request ended by a shutdown has to tell its client

Parsed = TypeVar("Parsed", bound=Addressed)


class Stoppable(Protocol):
    def stop(self, error: DecantError) -> None: ...


@dataclass
class Service:
    loaded: Loaded
    settings: ServerSettings = field(default_factory=ServerSettings)
    metrics: Metrics = field(default_factory=Metrics)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings.max_sequences, self.settings.max_queue)
        guides = self.loaded.models.policy.guides
        self.metrics.watch(self.loaded.up, lambda: self.admission.queued, self.settings.max_queue, guides)
        self._answering: set[Stoppable] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def model(self) -> str:
        return self.loaded.models.policy.name

    async def parse(self, request: Request, body: type[Parsed]) -> Parsed:
        """A request's body. Raises `InvalidRequest`, `BodyTooLarge`, `UnknownModel`."""
        raw = await _read(request)
        try:
            data: Any = from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            raise InvalidRequest(f"The body is not JSON: {error}.") from error
        parsed = parse(body, data)
        if parsed.model not in (None, "", self.model):
            raise UnknownModel(f"The model '{parsed.model}' is not served here: '{self.model}' is.")
        return parsed

    def refuse(self, error: DecantError) -> Response:
        """The answer to a request that was found wanting before any work."""
        if isinstance(error, InvalidRequest | BodyTooLarge):
            self.metrics.refused("invalid")
        elif isinstance(error, UnknownModel):
            self.metrics.refused("unknown_model")
        elif isinstance(error, EngineDead):
            self.metrics.refused("engine_dead")
        return response(error)

    def check_engines(self) -> None:
        """Raise `EngineDead` where no request can be answered any more."""
        for engine, up in self.loaded.up().items():
            if not up:
                raise EngineDead(f"The {engine} engine has died. The server must be restarted.")

    def check_length(self, prompt: Prompt, sampling: Sampling, prompt_field: str, length_field: str) -> None:
        """Refuse what does not fit the policy's context."""
        limit = self.loaded.text.max_model_len
        length = len(prompt.tokens)
        if length == 0:
            raise InvalidRequest("The prompt is empty.", prompt_field)
        if length >= limit:
            raise InvalidRequest(
                f"The prompt has {length} tokens; with at least one to come, it must have fewer than this model's "
                f"context of {limit}.",
                prompt_field,
            )
        if length + sampling.max_tokens > limit:
            raise InvalidRequest(
                f"The prompt has {length} tokens and {length_field} asks for {sampling.max_tokens} more: together over "
                f"this model's context of {limit}.",
                length_field,
            )

    def check_logprobs(self, sampling: Sampling, field: str) -> None:
        """Refuse more likeliest tokens than the policy can report."""
        most = self.loaded.text.max_logprobs
        if sampling.logprobs is not None and sampling.logprobs > most:
            raise InvalidRequest(f"{field} is {sampling.logprobs}: this model reports at most {most}.", field)

    def check_minimum(self, sampling: Sampling) -> None:
        """Refuse an answer that is to be longer than it may be."""
        if sampling.min_tokens > sampling.max_tokens:
            raise InvalidRequest(
                f"min_tokens asks for {sampling.min_tokens} tokens, and the answer may have {sampling.max_tokens}.",
                "min_tokens",
            )

    def check_budget(self, most: Cost, field: str) -> None:
        """Refuse what may draw more than the server allows."""
        bound = Budget(candidates=self.settings.max_candidates, tokens=self.settings.max_generated_tokens)
        bound.check(most, "this server's", field)

    def begin(self, answer: Stoppable) -> None:
        self._answering.add(answer)
        self._idle.clear()

    def end(self, answer: Stoppable) -> None:
        self._answering.discard(answer)
        if not self._answering:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Take no new requests, and wait for those under way; after `seconds`, end them with an error."""
        self.admission.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for answer in tuple(self._answering):
                answer.stop(Overloaded("The server shut down before this request was done.", "draining", 5))
            with suppress(TimeoutError):  # a client that does not read keeps no server up
                async with asyncio.timeout(LAST_WORDS):
                    await self._idle.wait()


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise BodyTooLarge(f"The body is over {MAX_BODY} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)
