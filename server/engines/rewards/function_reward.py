"""A reward that is a Python function: how it is found, and the thread that it runs in.

`function_process.py` runs one in a process instead.
"""

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from decoders.errors import PublicRewardFailure
from server.engines.rewards.batcher import Pair
from server.engines.rewards.function_call import Function, RewardCall, reward_call
from server.settings import FunctionCall, SettingsError

Rewards = list[float | None]
MAX_THREADS = 4
"""Threads that one function may hold: one that works, and those of calls that were given up and never returned."""


def import_beside(config: Path | None) -> None:
    """Add the settings file's folder to the end of `sys.path`, so that its modules hide no others."""
    folder = str(config.parent.resolve()) if config is not None else None
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)


def load_function(function: str, call: FunctionCall | None = None) -> RewardCall:
    """Return the function at `package.module:callable`, called as `call` or its signature says.

    Raises `SettingsError` if it cannot be imported, or cannot be called so.
    """
    return reward_call(function, import_function(function), call)


def import_function(function: str) -> Function:
    """Return the function at `package.module:callable`. Raises `SettingsError`."""
    module, name = function.split(":")
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever its author's code may raise
        message = " ".join(str(error).split())
        message = message if isinstance(error, ImportError) else f"{type(error).__name__}: {message}"
        raise SettingsError(f"cannot import '{module}': {message}") from error
    if not hasattr(imported, name):
        file = getattr(imported, "__file__", None) or "built in"
        raise SettingsError(f"'{module}' ({file}) has no '{name}'")
    loaded: Function = getattr(imported, name)
    if not callable(loaded):
        raise SettingsError(f"'{function}' is not callable")
    return loaded


def call_in_thread(call: RewardCall) -> Callable[[Sequence[Pair]], asyncio.Future[Rewards]]:
    """Return what scores a batch of prompts and completions by a function, in a new thread for each batch.

    A daemon thread each time, which does not keep the server from exiting. A thread cannot be ended: once `MAX_THREADS`
    of them have not returned, batches fail at once, with `PublicRewardFailure`, until one has.
    """
    places = threading.BoundedSemaphore(MAX_THREADS)

    def score(pairs: Sequence[Pair]) -> asyncio.Future[Rewards]:
        if not places.acquire(blocking=False):
            raise PublicRewardFailure(f"{MAX_THREADS} calls of it hang: it is called again once one of them returns")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rewards] = loop.create_future()

        def settle(result: Rewards | None, error: BaseException | None) -> None:
            if answer.done():  # the batch was abandoned
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result or [])

        def run() -> None:
            result: Rewards | None = None
            error: BaseException | None = None
            try:
                result = call.score(pairs)
            except BaseException as raised:
                # SystemExit and its like must not end the server, and a future cannot hold a StopIteration.
                plain = isinstance(raised, Exception) and not isinstance(raised, StopIteration)
                error = raised if plain else RuntimeError(f"{type(raised).__name__}: {raised}")
            places.release()
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        try:
            threading.Thread(target=run, name="reward", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            places.release()
            raise
        return answer

    return score
