"""A reward function in a process of its own, which is killed and replaced when a call takes too long.

A thread cannot be ended, and one that holds the interpreter's lock (a regular expression that backtracks does) stops
the whole server. A process can be killed, whatever it does.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any

from decoders.errors import PublicRewardFailure, RewardFailed
from server.engines.rewards.batcher import Pair
from server.engines.rewards.function_call import RewardCall, in_order

LINE = 2**24  # bytes of the longest answer
WORKER = "server.engines.rewards.function_worker"


class FunctionProcess:
    """Scores batches, one after the other. A call that is cancelled kills the process; the next call starts another.

    The process is started by the event loop's thread, and is killed with it.
    """

    def __init__(self, function: str, call: RewardCall) -> None:
        """Args:
        function: `package.module:callable`.
        call: How it is called.
        """
        self._function = function
        self._call = call
        self._process: Process | None = None
        self._start: asyncio.Task[Process] | None = None
        self._ending: set[asyncio.Task[int]] = set()

    async def score(self, pairs: Sequence[Pair]) -> list[float | None]:
        """Return the rewards. Raises `RewardFailed`."""
        parts = self._call.parts(pairs)
        return in_order(parts, [await self._ask([part.arguments, part.keywords]) for part in parts])

    async def aclose(self) -> None:
        """Kill the process."""
        if self._start is not None:
            self._start.cancel()
            await asyncio.gather(self._start, return_exceptions=True)
        if self._process is not None:
            self._kill(self._process)
        await asyncio.gather(*self._ending)

    async def _ask(self, arguments: list[Any]) -> list[float | None]:
        process = await self._ready()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(arguments).encode() + b"\n")
            await process.stdin.drain()
            answer = await _line(process)
        except BaseException as error:  # a late answer would be taken for the next call's
            self._kill(process)
            if isinstance(error, OSError | ValueError):
                raise PublicRewardFailure("its process has ended") from error
            raise
        return _rewards(answer)

    async def _ready(self) -> Process:
        """Return a process that has imported the function. The import goes on when a call no longer waits for it."""
        if self._process is not None and self._process.returncode is not None:
            self._process = None
        if self._process is None:
            self._start = start = self._start or asyncio.create_task(self._begin())
            try:
                self._process = await asyncio.shield(start)
            finally:
                if start.done():
                    self._start = None
        return self._process

    async def _begin(self) -> Process:
        folders = os.pathsep.join(path or os.getcwd() for path in sys.path)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", WORKER, self._function, str(os.getpid())),
            stdin=PIPE,
            stdout=PIPE,
            limit=LINE,
            env={**os.environ, "PYTHONPATH": folders},
        )
        try:
            _rewards(await _line(process))
        except BaseException as error:
            self._kill(process)
            if isinstance(error, OSError | ValueError):
                raise PublicRewardFailure("its process has ended") from error
            raise
        return process

    def _kill(self, process: Process) -> None:
        if process is self._process:
            self._process = None
        if process.returncode is None:
            process.kill()
            ending = asyncio.create_task(process.wait())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


async def _line(process: Process) -> dict[str, Any]:
    """Return the process's next answer. Raises `OSError` or `ValueError` where there is none."""
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(await process.stdout.readline())
    return line


def _rewards(answer: dict[str, Any]) -> list[float | None]:
    if "error" in answer:
        raise RewardFailed(answer["error"], public=answer.get("public"))
    rewards: list[float | None] = answer["rewards"]
    return rewards
