"""A reward that is a Python function."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from server.engines.batcher import Pair
from server.engines.scores import reals

Scores = list[float | None]
Function = Callable[[list[str], list[str]], Sequence[float | None]]


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
