"""A reward function in a process of its own: killed and replaced when it hangs, and gone when its server is."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from decoders.core import Candidate, Prompt
from decoders.errors import RewardFailed, RewardTimeout
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.function_process import FunctionProcess
from server.engines.rewards.function_reward import load_function
from server.engines.rewards.reward_timeout import RewardWithTimeout
from tests.support.serving import PATIENCE, until

MODULE = """
import asyncio, os, re, sys, time

def score(prompts, completions):
    print("not an answer")
    for text in completions:
        if text == "sleep":
            time.sleep(1000)
        if text == "backtrack":
            re.match("(a+)+b", "a" * 60)
        if text == "crash":
            os._exit(7)
        if text == "leave":
            sys.exit(3)
        if text == "raise":
            raise ValueError("no weights")
    return [float(len(text)) for text in completions]

async def by_role(prompts, completions, **kwargs):
    await asyncio.sleep(0)
    return [1.0 if isinstance(c, str) else float(len(c[0]["content"])) for c in completions]

def word(prompts, completions):
    return ["high"]

def number(prompts, completions):
    return [float(os.getpid())] * len(completions)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "hanging_rewards.py"
    file.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return file


def run(test: Callable[[FunctionProcess], Awaitable[None]], name: str = "score") -> None:
    async def within() -> None:
        function = f"hanging_rewards:{name}"
        process = FunctionProcess(function, load_function(function))
        try:
            await asyncio.wait_for(test(process), PATIENCE)
        finally:
            await process.aclose()
        assert workers() == []

    asyncio.run(within())


async def score(process: FunctionProcess, *texts: str, seconds: float = PATIENCE) -> list[float | None]:
    reward = RewardWithTimeout("tone", Batcher(process.score, 64, seconds), seconds)
    return await reward.score(Prompt((1,), "good"), [Candidate((1,), text, "stop") for text in texts])


def workers(parent: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if any("function_worker" in word for word in words(child))]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("hang", ["sleep", "backtrack"])
def test_a_call_that_hangs_ends_with_its_process_and_the_next_has_another(hang: str) -> None:
    async def test(process: FunctionProcess) -> None:
        assert await score(process, "a", "bcd") == [1.0, 3.0]
        threads = threading.active_count()
        for _ in range(3):
            [before] = workers()
            with pytest.raises(RewardTimeout):
                await score(process, hang, seconds=0.2)
            assert await score(process, "ab") == [2.0]
            assert not before.is_running() or before.status() == psutil.STATUS_ZOMBIE
            assert len(workers()) == 1
        assert threading.active_count() == threads

    run(test)


@pytest.mark.parametrize(
    ("text", "words"),
    [("crash", "its process has ended"), ("leave", "its process has ended"), ("raise", "ValueError: no weights")],
)
def test_a_call_that_fails_fails_alone(text: str, words: str) -> None:
    async def test(process: FunctionProcess) -> None:
        with pytest.raises(RewardFailed, match=f"The reward 'tone' failed: {words}"):
            await score(process, text)
        assert await score(process, "ab") == [2.0]

    run(test)


def test_one_that_dies_between_calls_is_replaced() -> None:
    async def test(process: FunctionProcess) -> None:
        [[before], [again]] = [await score(process, "a"), await score(process, "a")]
        assert before == again
        psutil.Process(int(before or 0)).kill()
        with suppress(RewardFailed):  # a call that comes before the death is known
            await score(process, "a")
        [other] = await score(process, "a")
        assert other != before

    run(test, "number")


def test_chats_go_as_messages_to_a_function_of_trls_and_an_async_one_is_awaited() -> None:
    chat = ({"role": "user", "content": "hi"},)
    pairs = [
        (Prompt((1,), "<hi>", chat), Candidate((2,), "hello", "stop")),
        (Prompt((1,), "good"), Candidate((3,), "bad", "stop")),
    ]

    async def test(process: FunctionProcess) -> None:
        assert await process.score(pairs) == [5.0, 1.0]

    run(test, "by_role")


def test_what_is_no_number_is_a_failure() -> None:
    async def test(process: FunctionProcess) -> None:
        with pytest.raises(RewardFailed, match="the score of completion 0: 'high' is not a number"):
            await score(process, "a")

    run(test, "word")


def test_a_module_that_the_process_cannot_import_is_a_failure_until_it_can(module: Path) -> None:
    async def test(process: FunctionProcess) -> None:
        module.write_text("raise RuntimeError('no card')")  # noqa: ASYNC240
        with pytest.raises(RewardFailed, match="cannot import 'hanging_rewards': RuntimeError: no card"):
            await score(process, "a")
        module.write_text(MODULE)  # noqa: ASYNC240
        assert await score(process, "a") == [1.0]

    run(test)


SERVER = """
import asyncio
from decoders.core import Candidate, Prompt
from server.engines.rewards.function_process import FunctionProcess
from server.engines.rewards.function_reward import load_function

async def main():
    process = FunctionProcess("hanging_rewards:score", load_function("hanging_rewards:score"))
    await process.score([(Prompt((1,), ""), Candidate((1,), "", "stop"))])
    print("ready", flush=True)
    await process.score([(Prompt((1,), ""), Candidate((1,), "backtrack", "stop"))])

asyncio.run(main())
"""


def test_a_process_that_hangs_ends_with_a_server_that_is_killed(module: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.append({str(module.parent)!r})\n{SERVER}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        server.stdout.readline()
        [worker] = workers(server.pid)
        busy = worker.cpu_times().user
        until(lambda: worker.cpu_times().user > busy + 0.3)  # it backtracks
        server.kill()
        server.wait()
        psutil.wait_procs([worker], timeout=5)
        assert not worker.is_running()
