"""A reward model on another server."""

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

import httpx

from decoders.errors import RewardFailed
from decoders.parts.concurrency import together
from server.engines.rewards.batcher import Pair
from server.engines.rewards.remote_shapes import RemoteRequest, shape_of
from server.engines.text.model_text import ModelText
from server.settings import HttpReward, SettingsError
from server.telemetry.spans import call_answered, http_call

RETRY_AFTER = 0.2  # seconds, doubled after each further attempt
RETRIED = frozenset({429, 502, 503})
SHOWN = 200  # bytes of an answer that is an error
PLAIN = "identity"  # the encoding of a body that is not compressed


class RemoteReward:
    """Scores batches of texts, or of chats where the other server and the settings' template have them.

    The special tokens that the policy's tokenizer puts before a text are not sent: the other server adds its own.
    """

    def __init__(
        self, settings: HttpReward, transport: httpx.AsyncBaseTransport | None = None, policy: ModelText | None = None
    ) -> None:
        """Args:
            policy: The policy's tokenizer; without it, texts are sent as they are.

        Raises `SettingsError` if the environment does not have the key.
        """
        key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        if settings.api_key_env and not key:
            raise SettingsError(f"rewards: {settings.url} wants the key in {settings.api_key_env}, which is not set")
        self._settings = settings
        self._shape = shape_of(settings, policy)
        headers = {"Accept-Encoding": PLAIN} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._client = httpx.AsyncClient(headers=headers, timeout=settings.timeout_s, transport=transport)

    async def score(self, pairs: Sequence[Pair]) -> list[float]:
        scores = [0.0] * len(pairs)
        requests = self._shape.requests(pairs)
        answers = await together(self._ask(request) for request in requests)
        for request, answer in zip(requests, answers, strict=True):
            for place, score in zip(request.places, answer, strict=True):
                scores[place] = score
        return scores

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, request: RemoteRequest) -> list[float]:
        answer = await self._post(request.body)
        try:
            return self._shape.read(json.loads(answer), len(request.places))
        except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
            said = "answered something else than rewards"
            raise RewardFailed(f"{self._settings.url} {said}: {error!r}", public=f"its server {said}") from error

    async def _post(self, body: dict[str, Any]) -> bytes:
        """Return the body of an answer with status 200, after retries. Raises `RewardFailed`."""
        url = self._settings.url
        for attempt in range(self._settings.retries + 1):
            last = attempt == self._settings.retries
            try:
                async with (
                    http_call("POST", url, attempt) as (span, headers),
                    self._client.stream("POST", url, json=body, headers=headers) as answer,
                ):
                    call_answered(span, answer.status_code)
                    if answer.status_code == httpx.codes.OK:
                        return await self._whole(answer)
                    if last or answer.status_code not in RETRIED:
                        said = (await _beginning(answer, SHOWN))[:SHOWN].decode(errors="replace")
                        status = f"answered {answer.status_code}"
                        raise RewardFailed(f"{url} {status}: {said}", public=f"its server {status}")
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.TimeoutException):
                    late = isinstance(error, httpx.TimeoutException)
                    public = "its server took too long" if late else "its server could not be reached"
                    raise RewardFailed(f"{url}: {type(error).__name__}: {error}", public=public) from error
            await asyncio.sleep(RETRY_AFTER * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _whole(self, answer: httpx.Response) -> bytes:
        """Return an answer's body. Raises `RewardFailed` if it is compressed or too long, before it is all read."""
        limit = self._settings.max_reply_bytes
        encoding = answer.headers.get("content-encoding", PLAIN)
        if encoding.lower() != PLAIN:  # a few kilobytes of it may be gigabytes of text
            message = f"{self._settings.url} answered in content-encoding {encoding}, and was asked for none"
            raise RewardFailed(message, public="its server answered in a content-encoding that it was not asked for")
        body = await _beginning(answer, limit)
        if len(body) > limit:
            long = f"answered with more than `max_reply_bytes`, {limit} bytes"
            raise RewardFailed(f"{self._settings.url} {long}", public=f"its server {long}")
        return body


async def _beginning(answer: httpx.Response, limit: int) -> bytes:
    """Return the body's first bytes, a few more than `limit` if it is longer; nothing of a body that is compressed."""
    body = bytearray()
    if answer.headers.get("content-encoding", PLAIN).lower() == PLAIN:
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > limit:
                break
    return bytes(body)
