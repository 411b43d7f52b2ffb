"""Calls that arrive while a batch is being scored go together into the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from decoders.core import Candidate, Prompt
from decoders.errors import PublicRewardFailure

Pair = tuple[Prompt, Candidate]
BatchRewards = Sequence[float | None]
ScoreBatch = Callable[[Sequence[Pair]], Awaitable[BatchRewards]]


@dataclass(frozen=True, slots=True)
class _Call:
    pairs: list[Pair]
    answer: "asyncio.Future[BatchRewards]"
    context: Context = field(default_factory=copy_context)
    """What its request's log lines and spans go by. The worker was started by another request, perhaps."""


class Batcher:
    """A reward that scores batches of at most `max_batch` pairs, one batch at a time.

    A batch that fails is tried again call by call, so that a completion that makes it fail fails its own request only.
    A batch that takes more than `timeout` seconds is abandoned, and the next one starts.
    """

    def __init__(self, score: ScoreBatch, max_batch: int, timeout: float, *, scores_all: bool = False) -> None:
        self.scores_all = scores_all
        self._score = score
        self._max_batch = max_batch
        self._timeout = timeout
        self._waiting: deque[_Call] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> BatchRewards:
        call = _Call([(prompt, c) for c in completions], asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await call.answer

    async def _work(self) -> None:
        while self._waiting:
            batch = self._next()
            if not batch:
                continue
            try:
                await self._answer(batch)
            except Exception as error:
                if len(batch) == 1:
                    _fail(batch[0], error)
                    continue
                for call in batch:
                    if call.answer.done():  # its caller has left: a batch that hangs is not tried again
                        continue
                    try:
                        await self._answer([call])
                    except Exception as own:
                        _fail(call, own)

    def _next(self) -> list[_Call]:
        """Return as many waiting calls as fit, the first one whatever its size; drop calls whose callers left."""
        batch: list[_Call] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].pairs) <= self._max_batch):
            call = self._waiting.popleft()
            if not call.answer.done():
                batch.append(call)
                size += len(call.pairs)
        return batch

    async def _answer(self, batch: list[_Call]) -> None:
        pairs = [pair for call in batch for pair in call.pairs]
        rewards: list[float | None] = []
        for start in range(0, len(pairs), self._max_batch):
            part = pairs[start : start + self._max_batch]
            async with asyncio.timeout(self._timeout):
                returned = await asyncio.create_task(self._scored(part), context=batch[0].context)
            if len(returned) != len(part):
                raise PublicRewardFailure(f"gave {len(returned)} rewards for {len(part)} completions")
            rewards += returned
        for call in batch:
            own, rewards = rewards[: len(call.pairs)], rewards[len(call.pairs) :]
            if not call.answer.done():
                call.answer.set_result(own)

    async def _scored(self, pairs: Sequence[Pair]) -> BatchRewards:
        return await self._score(pairs)


def _fail(call: _Call, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
