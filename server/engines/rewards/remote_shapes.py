"""The requests and answers of reward servers: vLLM's /classify and /pooling, and OpenRLHF's /get_reward."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from decoders.errors import RewardFailed
from server.engines.rewards.batcher import Pair
from server.engines.rewards.reward_text import plain_text
from server.engines.rewards.reward_values import as_reward, shortened
from server.engines.text.model_text import ModelText
from server.settings import HttpReward


class RemoteRequest(NamedTuple):
    """One request's body, and the places of its pairs in the batch."""

    places: list[int]
    body: dict[str, Any]


class RemoteShape(Protocol):
    """How a reward server is asked, and how its answer is read."""

    def requests(self, pairs: Sequence[Pair]) -> list[RemoteRequest]:
        """Return the requests that score all pairs together."""

    def read(self, answer: Any, count: int) -> list[float]:
        """Return the rewards of `count` completions, in order.

        Raises `RewardFailed`, `LookupError`, `TypeError`, `ValueError` or `OverflowError` for any other answer.
        """


def shape_of(settings: HttpReward, policy: ModelText | None) -> RemoteShape:
    """Return the shape that the url's last part names."""
    return OpenRlhf(settings, policy) if settings.url.endswith("/get_reward") else Vllm(settings, policy)


class Vllm:
    """Texts go together, each chat alone as `messages`, so that the remote model's own template is used."""

    def __init__(self, settings: HttpReward, policy: ModelText | None) -> None:
        self._settings = settings
        self._policy = policy
        self._pooling = settings.url.endswith("/pooling")

    def requests(self, pairs: Sequence[Pair]) -> list[RemoteRequest]:
        own = self._settings.reads == "own"
        chats = [i for i, (prompt, _) in enumerate(pairs) if own and prompt.messages is not None]
        texts = [i for i, (prompt, _) in enumerate(pairs) if not own or prompt.messages is None]
        made = [RemoteRequest([i], self._body(**_chat_fields(pairs[i]))) for i in chats]
        if texts:
            together = [_text(pairs[i], self._settings, self._policy) for i in texts]
            made.insert(0, RemoteRequest(texts, self._body(input=together)))
        return made

    def _body(self, **fields: Any) -> dict[str, Any]:
        fields["use_activation"] = self._settings.activation
        if self._settings.model:
            fields["model"] = self._settings.model
        if self._pooling:
            fields["task"] = "classify"
        return fields

    def read(self, answer: Any, count: int) -> list[float]:
        field = "data" if self._pooling else "probs"
        scores: dict[int, float] = {}
        for row in answer["data"]:
            index = row["index"]
            if type(index) is not int or not 0 <= index < count or index in scores:
                raise ValueError(f"index {shortened(index)} is not one of {count} that are each named once")
            scores[index] = self._pick(row[field])
        if len(scores) != count:
            raise _miscounted(self._settings.url, len(scores), count)
        return [scores[i] for i in range(count)]

    def _pick(self, values: Any) -> float:
        if not isinstance(values, list):
            raise TypeError(f"{shortened(values)} is not a list of outputs")
        if self._settings.label is None and len(values) != 1:
            raise ValueError(f"{len(values)} outputs: set `label` to say which one is the reward")
        return _finite(values[self._settings.label or 0])  # vLLM cannot report another: it would not be JSON


class OpenRlhf:
    """All pairs go together, as texts: `query` is prompt and completion, `prompts` the prompt alone."""

    def __init__(self, settings: HttpReward, policy: ModelText | None) -> None:
        self._settings = settings
        self._policy = policy

    def requests(self, pairs: Sequence[Pair]) -> list[RemoteRequest]:
        queries = [_text(pair, self._settings, self._policy) for pair in pairs]
        ends = [len(candidate.text) for _, candidate in pairs]
        prompts = [query[: len(query) - end] for query, end in zip(queries, ends, strict=True)]
        return [RemoteRequest(list(range(len(pairs))), {"query": queries, "prompts": prompts})]

    def read(self, answer: Any, count: int) -> list[float]:
        values = answer["rewards"]
        if not isinstance(values, list):
            raise TypeError(f"{shortened(values)} is not a list of rewards")
        if len(values) != count:
            raise _miscounted(self._settings.url, len(values), count)
        # A head of one output gives lists of one number.
        return [_finite(value[0] if isinstance(value, list) and len(value) == 1 else value) for value in values]


def _miscounted(url: str, given: int, count: int) -> RewardFailed:
    gave = f"gave {given} rewards for {count} completions"
    return RewardFailed(f"{url} {gave}", public=f"its server {gave}")


def _finite(value: Any) -> float:
    score = as_reward(value)
    if not math.isfinite(score):
        raise ValueError(f"{score} is not finite")
    return score


def _text(pair: Pair, settings: HttpReward, policy: ModelText | None) -> str:
    prompt, candidate = pair
    return plain_text(prompt, candidate.text, settings.reads, policy)


def _chat_fields(pair: Pair) -> dict[str, Any]:
    """Return the fields of a chat with its answer as the last turn."""
    prompt, candidate = pair
    messages = [dict(message) for message in prompt.answered(prompt.reply(candidate))]
    return {"messages": messages, "add_generation_prompt": False}
