"""What a reward's model gives for a text as it stands: the numbers that vLLM's /classify, /pooling and /score answer.

A reward that runs no model here (a function, another server, a guide) is asked for its one number instead: for a chat
that ends with the assistant's message, for a pair of prompt and completion, or for a text as a completion of nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import InvalidRequest, PublicRewardFailure
from decoders.models import Reward
from decoders.reply import with_calls_as_text
from server.engines.text import Chat, Text
from server.engines.text.protocol import Message

PoolingTask = Literal["classify", "token_classify"]
"""Whether a model gives its numbers for the whole text or for each token."""


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text as token ids; those from `second` on are a pair's second text, for a model with token types.

    `pair` is what a reward without a model here is asked about.
    """

    tokens: Tokens
    second: int | None = None
    pair: tuple[Prompt, Candidate] | None = None


class RawReward(Protocol):
    """A reward as a pooling model. What reads a text raises `InvalidRequest`, which names the request's field."""

    outputs: int

    def label(self, index: int) -> str | None:
        """Return the name of an output."""

    async def task(self) -> PoolingTask:
        """Return what the model gives its numbers for."""

    async def text(self, text: str | Sequence[int], *, special: bool) -> ReadText:
        """Read a text or token ids; `special` adds the tokenizer's special tokens to a text."""

    async def chat(self, messages: Sequence[Message], *, reply: bool, continued: bool, special: bool) -> ReadText:
        """Read a chat by the model's chat template, as `ModelText.render` does."""

    async def pair(self, first: str, second: str) -> ReadText:
        """Read two texts as the model compares them."""

    async def whole(self, read: ReadText, activation: bool | None) -> list[float]:
        """Return the numbers of the whole text; an `activation` of None is the model's own choice."""

    async def each(self, read: ReadText, activation: bool | None) -> list[list[float]]:
        """Return the numbers of each token."""


@runtime_checkable
class ModelHere(Protocol):
    """A reward whose model runs here, and can be asked about texts as they stand."""

    raw: RawReward


class ScoredPairs:
    """A reward without a model here, as a pooling model with one output."""

    outputs = 1

    def __init__(self, reward: Reward, text: Text) -> None:
        """Args:
        text: The policy's tokenizer.
        """
        self._reward = reward
        self._text = text

    def label(self, index: int) -> str | None:  # noqa: ARG002
        return None

    async def task(self) -> PoolingTask:
        return "classify"

    async def text(self, text: str | Sequence[int], *, special: bool) -> ReadText:
        if not isinstance(text, str):
            raise InvalidRequest("This reward runs no model here that has token ids: send texts.", "input")
        if not special:
            raise InvalidRequest("This reward runs no model here that has special tokens.", "add_special_tokens")
        return await self.pair("", text)

    async def chat(self, messages: Sequence[Message], *, reply: bool, continued: bool, special: bool) -> ReadText:
        for name, asked in (
            ("add_generation_prompt", reply),
            ("continue_final_message", continued),
            ("add_special_tokens", special),
        ):
            if asked:
                raise InvalidRequest("This reward runs no model here, whose template could do that.", name)
        *before, last = messages
        if not before or last["role"] != "assistant":
            raise InvalidRequest("This reward scores an answer: let the assistant's message be the last.", "messages")
        [said] = with_calls_as_text([last])
        prompt = await self._text.chat(Chat(tuple(before)))
        return self._read(prompt, await self._text.completion(said["content"], ended=True))

    async def pair(self, first: str, second: str) -> ReadText:
        return self._read(await self._text.encode(first), await self._text.completion(second, ended=False))

    def _read(self, prompt: Prompt, completion: Candidate) -> ReadText:
        return ReadText(prompt.tokens + completion.tokens, pair=(prompt, completion))

    async def whole(self, read: ReadText, activation: bool | None) -> list[float]:
        if activation:
            raise InvalidRequest("This reward runs no model here that has an activation.", "use_activation")
        assert read.pair is not None
        prompt, completion = read.pair
        [score] = await self._reward.score(prompt, [completion])
        if score is None or not math.isfinite(score):
            raise PublicRewardFailure("it has no finite number for a text")
        return [score]

    async def each(self, read: ReadText, activation: bool | None) -> list[list[float]]:  # noqa: ARG002
        raise AssertionError("its task is another")
