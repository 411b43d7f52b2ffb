"""How reward functions are called: with texts, or by keywords as TRL's trainers call theirs."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from decoders.core import Candidate, Prompt
from server.engines.rewards.batcher import Pair
from server.engines.rewards.function_call import reward_call
from server.engines.rewards.function_reward import call_in_thread
from server.settings import SettingsError
from tests.support.serving import PATIENCE

CHAT = ({"role": "system", "content": "be good"}, {"role": "user", "content": "hi"})
PLAIN: Pair = (Prompt((1, 2), "good"), Candidate((3, 4), " bad", "stop"))
TALK: Pair = (Prompt((1,), "<hi>", CHAT), Candidate((5,), "hello", "stop"))
BEGUN: Pair = (
    Prompt((1,), "<hi>he", (*CHAT, {"role": "assistant", "content": "he"}), continues=True),
    Candidate((6,), "llo", "stop"),
)


def texts(prompts: list[str], completions: list[str]) -> list[float]:
    return [float(len(p + c)) for p, c in zip(prompts, completions, strict=True)]


# What TRL's documentation and trl.rewards write.
def by_ids(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


def by_length(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(c if isinstance(c, str) else c[0]["content"])) for c in completions]


def by_role(prompts: list[Any], completions: list[Any], **_: Any) -> list[float | None]:
    pairs = zip(prompts, completions, strict=True)
    roles = [(p, c) if isinstance(p, str) else (p[-1]["role"], c[0]["role"]) for p, c in pairs]
    return [1.0 if pair == ("user", "assistant") else None for pair in roles]


async def later(completions: list[Any], **_: Any) -> list[float]:
    await asyncio.sleep(0)
    return by_length(completions)


class Judge:
    """A callable object, asynchronous as some of TRL's are."""

    async def __call__(self, completions: list[Any], **_: Any) -> list[float]:
        return by_length(completions)


def keywords_alone(*, prompts: list[Any], completions: list[Any]) -> list[float]:
    return [float(len(prompts))] * len(completions)


def optional_column(completions: list[Any], answer: list[str] | None = None) -> list[float]:
    assert answer is None
    return by_length(completions)


@pytest.mark.parametrize(
    ("function", "keywords", "rewards"),
    [
        (texts, None, [8.0, 9.0]),
        (lambda _, those: [0.5] * len(those), None, [0.5, 0.5]),
        (lambda *args, **_: [1.0] * len(args[1]), None, [1.0, 1.0]),
        (by_ids, ("prompts", "completions", "completion_ids"), [2.0, 1.0]),
        (by_length, ("prompts", "completions", "completion_ids"), [4.0, 5.0]),
        (by_role, ("prompts", "completions", "completion_ids"), [None, 1.0]),
        (later, ("prompts", "completions", "completion_ids"), [4.0, 5.0]),
        (Judge(), ("prompts", "completions", "completion_ids"), [4.0, 5.0]),
        (optional_column, ("completions",), [4.0, 5.0]),
    ],
)
def test_a_signature_says_how_a_function_is_called(
    function: Callable[..., Any], keywords: tuple[str, ...] | None, rewards: list[float | None]
) -> None:
    call = reward_call("m:f", function, None)
    assert call.keywords == keywords
    assert call.score([PLAIN, TALK]) == rewards


def test_the_settings_say_it_where_the_signature_does_not() -> None:
    seen: list[Any] = []

    def function(prompts: Any, completions: Any) -> list[float]:
        seen.append((prompts, completions))
        return [0.0] * len(completions)

    reward_call("m:f", function, "trl").score([TALK])
    assert seen.pop() == ([list(CHAT)], [[{"role": "assistant", "content": "hello"}]])
    reward_call("m:f", function, None).score([TALK])
    assert seen.pop() == (["<hi>"], ["hello"])
    assert reward_call("m:f", keywords_alone, "trl").score([TALK]) == [1.0]
    with pytest.raises(SettingsError, match="'m:f' is not called as \\(prompts, completions\\)"):
        reward_call("m:f", keywords_alone, "texts")


def test_chats_and_texts_go_in_calls_of_their_own_and_come_back_in_order() -> None:
    seen: list[list[Any]] = []

    def function(completions: list[Any], **_: Any) -> list[float]:
        seen.append(completions)
        return by_length(completions)

    assert reward_call("m:f", function, None).score([TALK, PLAIN, TALK]) == [5.0, 4.0, 5.0]
    answer = [{"role": "assistant", "content": "hello"}]
    assert seen == [[answer, answer], [" bad"]]


def test_a_turn_that_the_prompt_begins_is_a_part_of_the_completion() -> None:
    def function(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        assert prompts == [list(CHAT)]
        assert completions == [[{"role": "assistant", "content": "hello"}]]
        return [1.0]

    assert reward_call("m:f", function, None).score([BEGUN]) == [1.0]


def test_a_function_cannot_change_the_request() -> None:
    def function(prompts: list[Any], **_: Any) -> list[float]:
        prompts[0][0]["content"] = "be bad"
        return [0.0]

    reward_call("m:f", function, None).score([TALK])
    assert CHAT[0]["content"] == "be good"


@pytest.mark.parametrize("column", ["answer", "trainer_state", "completions_ids"])
def test_a_function_that_needs_a_column_of_a_dataset_is_refused_at_the_start(column: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def f(completions, {column}, **kwargs): ...", namespace)
    with pytest.raises(SettingsError, match=f"without a dataset's columns: missing a required argument: '{column}'"):
        reward_call("m:f", namespace["f"], None)


def test_too_few_rewards_of_one_form_are_seen() -> None:
    def function(completions: list[Any], **_: Any) -> list[float]:
        return [0.0] * (len(completions) - 1)

    assert len(reward_call("m:f", function, None).score([TALK, TALK, PLAIN])) != 3


def test_an_async_function_runs_beside_the_servers_loop() -> None:
    threads: list[threading.Thread] = []

    async def function(completions: list[Any], **_: Any) -> list[float]:
        await asyncio.sleep(0.01)
        threads.append(threading.current_thread())
        return by_length(completions)

    async def test() -> list[float | None]:
        return await call_in_thread(reward_call("m:f", function, None))([PLAIN])

    assert run(test()) == [4.0]
    assert threads[0] is not threading.main_thread()


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, PATIENCE))
