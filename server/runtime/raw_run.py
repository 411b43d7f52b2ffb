"""A run that asks one reward about texts, and draws nothing."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from decoders.core import Prompt, Rng, Sampling
from decoders.errors import RewardFailed, UnreadableText
from decoders.events import Cost, Done, Run
from decoders.models import Models
from decoders.parts.concurrency import together
from server.engines.rewards.raw_reward import ReadText
from server.engines.rewards.reward_timeout import named


class RawRun:
    """What `/classify`, `/pooling` and `/score` run. `values` has the reward's numbers for each text, when it has run.

    Args:
        name: The reward's.
        read: Gives the numbers of one text.
    """

    def __init__(self, name: str, texts: Sequence[ReadText], read: Callable[[ReadText], Awaitable[Any]]) -> None:
        self.texts = texts
        self.values: list[Any] = []
        self._name = name
        self._read = read

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:  # noqa: ARG002
        return len(self.texts)

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:  # noqa: ARG002
        """Yield one `Done`. Raises `RewardFailed` with the reward's name."""
        started = time.perf_counter()
        self.values = await together(self._of(text) for text in self.texts)
        read = sum(len(text.tokens) for text in self.texts)
        yield Done((), Cost(scored_tokens=read, seconds={"score": time.perf_counter() - started}))

    async def _of(self, text: ReadText) -> Any:
        try:
            return await self._read(text)
        except UnreadableText:
            raise
        except RewardFailed as error:
            has_name = str(error).startswith("The reward '")  # by the reward's time-out
            raise error if has_name else named(self._name, error) from error
