"""A reward model on another server, behind vLLM's /classify or /pooling endpoint."""

import asyncio
import math
import os
from collections.abc import Sequence
from typing import Any

import httpx

from decoders.errors import RewardFailed
from decoders.parts.concurrency import together
from server.engines.rewards.batcher import Pair
from server.engines.rewards.reward_text import plain_text
from server.engines.rewards.reward_values import as_reward, shortened
from server.engines.text.model_text import ModelText
from server.settings import HttpReward, SettingsError

RETRY_AFTER = 0.2  # seconds, doubled after each further attempt
RETRIED = frozenset({429, 502, 503})


class RemoteReward:
    """Scores batches of texts, or chats where the prompt is one, so that the remote model's own template is used.

    Unless `template` is `own`, a chat is sent as a text too. The special tokens that the policy's tokenizer puts before
    a text are not sent: the other server adds its own.
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
        self._policy = policy
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=settings.timeout_s, transport=transport
        )

    async def score(self, pairs: Sequence[Pair]) -> list[float]:
        own = self._settings.template == "own"
        chats = [i for i, (prompt, _) in enumerate(pairs) if own and prompt.messages is not None]
        texts = [i for i, (prompt, _) in enumerate(pairs) if not own or prompt.messages is None]
        scores = [0.0] * len(pairs)
        requests = [self._request({"messages": _chat(pairs[i])}, 1) for i in chats]
        if texts:
            requests.insert(0, self._request({"input": [self._text(pairs[i]) for i in texts]}, len(texts)))
        answers = await together(requests)
        for i, score in zip(texts + chats, (s for answer in answers for s in answer), strict=True):
            scores[i] = score
        return scores

    def _text(self, pair: Pair) -> str:
        prompt, candidate = pair
        return plain_text(prompt, candidate.text, self._settings.template, self._policy)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _request(self, body: dict[str, Any], count: int) -> list[float]:
        body["use_activation"] = self._settings.activation
        if self._settings.model:
            body["model"] = self._settings.model
        if "messages" in body:
            body["add_generation_prompt"] = False
        pooling = self._settings.url.endswith("/pooling")
        if pooling:
            body["task"] = "classify"
        answer = await self._post(body)
        try:
            return self._read(answer.json(), "data" if pooling else "probs", count)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise RewardFailed(f"{self._settings.url} answered something else than rewards: {error!r}") from error

    def _read(self, answer: Any, field: str, count: int) -> list[float]:
        """Return the rewards of `count` completions, in order.

        Raises `RewardFailed`, `LookupError`, `TypeError`, `ValueError` or `OverflowError` for any other answer.
        """
        scores: dict[int, float] = {}
        for row in answer["data"]:
            index = row["index"]
            if type(index) is not int or not 0 <= index < count or index in scores:
                raise ValueError(f"index {shortened(index)} is not one of {count} that are each named once")
            scores[index] = self._pick(row[field])
        if len(scores) != count:
            raise RewardFailed(f"{self._settings.url} gave {len(scores)} rewards for {count} completions")
        return [scores[i] for i in range(count)]

    def _pick(self, values: Any) -> float:
        if not isinstance(values, list):
            raise TypeError(f"{shortened(values)} is not a list of outputs")
        if self._settings.label is None and len(values) != 1:
            raise ValueError(f"{len(values)} outputs: set `label` to say which one is the reward")
        score = as_reward(values[self._settings.label or 0])
        if not math.isfinite(score):  # vLLM cannot report one: its answer would not be JSON
            raise ValueError(f"{score} is not finite")
        return score

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        """Return the answer with status 200, after retries. Raises `RewardFailed`."""
        for attempt in range(self._settings.retries + 1):
            last = attempt == self._settings.retries
            try:
                answer = await self._client.post(self._settings.url, json=body)
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.TimeoutException):
                    raise RewardFailed(f"{self._settings.url}: {type(error).__name__}: {error}") from error
            else:
                if answer.status_code == httpx.codes.OK:
                    return answer
                if last or answer.status_code not in RETRIED:
                    raise RewardFailed(f"{self._settings.url} answered {answer.status_code}: {answer.text[:200]}")
            await asyncio.sleep(RETRY_AFTER * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


def _chat(pair: Pair) -> list[dict[str, str]]:
    prompt, candidate = pair
    return [dict(message) for message in prompt.answered(candidate.text)]
