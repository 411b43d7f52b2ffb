"""A reward that is a Python function."""

import asyncio
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from server.engines.batcher import Pair
from server.engines.scores import reals
from server.settings import SettingsError

Scores = list[float | None]
Function = Callable[[list[str], list[str]], Sequence[float | None]]


def find_beside(config: Path | None) -> None:
    """Let functions be imported from the settings file's folder: last, so that nothing there hides another module."""
    folder = str(config.parent.resolve()) if config is not None else None
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)


def load(function: str) -> Function:
    """What `package.module:callable` names. Raises `SettingsError`."""
    module, name = function.split(":")
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever its author's code may raise
        said = " ".join(str(error).split())
        said = said if isinstance(error, ImportError) else f"{type(error).__name__}: {said}"
        raise SettingsError(f"cannot import '{module}': {said}") from error
    if not hasattr(imported, name):
        found = getattr(imported, "__file__", None) or "built in"
        raise SettingsError(f"'{module}' ({found}) has no '{name}'")
    loaded: Function = getattr(imported, name)
    if not callable(loaded):
        raise SettingsError(f"'{function}' is not callable")
    if inspect.iscoroutinefunction(loaded):
        raise SettingsError(f"'{function}' is async; it has to be a plain function, which is called in a thread")
    try:
        signature = inspect.signature(loaded)
    except ValueError:  # some that are built in have none
        return loaded
    try:
        signature.bind([], [])
    except TypeError as error:
        raise SettingsError(f"'{function}' is not called as (prompts, completions): {error}") from error
    return loaded


def scorer(function: Function) -> Callable[[Sequence[Pair]], asyncio.Future[Scores]]:
    """`function` over a batch of prompts and completions, in a thread of its own.

    A daemon thread each time, not a pool: a function that never returns costs a thread, and neither a place in a
    pool nor the server's exit.
    """

    def score(pairs: Sequence[Pair]) -> asyncio.Future[Scores]:
        prompts = [prompt.text for prompt, _ in pairs]
        completions = [candidate.text for _, candidate in pairs]
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Scores] = loop.create_future()

        def settle(result: Scores | None, error: BaseException | None) -> None:
            if answer.done():  # nobody waits any more
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result or [])

        def run() -> None:
            result: Scores | None = None
            error: BaseException | None = None
            try:
                result = reals(function(prompts, completions))
            except BaseException as raised:
                # SystemExit and its like end a thread, not a server; StopIteration is what no future can carry.
                plain = isinstance(raised, Exception) and not isinstance(raised, StopIteration)
                error = raised if plain else RuntimeError(f"{type(raised).__name__}: {raised}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=run, name="reward", daemon=True).start()
        return answer

    return score
