"""Rewards as they are served: batched, in threads, timed, and failing by their own name."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from decoders.core import Candidate, Prompt
from decoders.errors import EngineDead, RewardFailed, RewardTimeout
from decoders.models import Reward
from decoders.testing import ToyReward
from server.engines.rewards.batcher import Batcher, Pair
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.loading import toy
from tests.support.fakes import giving, hanging, raising
from tests.support.serving import PATIENCE, Api, ok, serving

PROMPT = Prompt((1,), "good")


def candidates(*texts: str) -> list[Candidate]:
    return [Candidate((1,), text, "stop") for text in texts]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE))


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def test_completions_are_scored_in_order_by_name_and_in_total(api: Api) -> None:
    body = {"prompt": "odd", "completions": ["good good", "bad", ""], "reward": {"default": 2.0, "brevity": 1.0}}
    answer = ok(api.post("rewards", body))
    assert answer["object"] == "list"
    assert answer["model"] == "toy"
    assert [row["index"] for row in answer["data"]] == [0, 1, 2]
    assert [row["rewards"] for row in answer["data"]] == [
        {"default": 2.0, "brevity": -2.0},
        {"default": -1.0, "brevity": -1.0},
        {"default": 0.0, "brevity": 0.0},
    ]
    assert [row["total"] for row in answer["data"]] == [2.0, -3.0, 0.0]
    assert answer["cost"]["scored_tokens"] == 2 * (3 + 3)
    assert set(answer["cost"]["seconds"]) == {"queue", "score"}


def test_a_chat_is_scored_and_an_end_is_a_token(api: Api) -> None:
    chat = {"messages": [{"role": "user", "content": "odd odd"}], "completions": ["good"]}
    assert ok(api.post("rewards", chat))["cost"]["scored_tokens"] == 3
    assert ok(api.post("rewards", {**chat, "ended": True}))["cost"]["scored_tokens"] == 4


class Recorder:
    """A batch scorer that keeps its batches, and waits at a gate."""

    def __init__(self, poison: str = "poison") -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self._poison = poison

    async def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        texts = [candidate.text for _, candidate in pairs]
        self.batches.append(texts)
        await self.gate.wait()
        if self._poison in texts:
            raise ValueError("poisoned")
        return [float(len(text)) for text in texts]


def score(reward: Reward, *texts: str) -> "asyncio.Task[Sequence[float | None]]":
    return asyncio.create_task(asyncio.wait_for(reward.score(PROMPT, candidates(*texts)), PATIENCE))


def test_what_arrives_while_a_batch_is_under_way_goes_together_into_the_next() -> None:
    async def test() -> None:
        recorder = Recorder()
        batcher = Batcher(recorder, 3, PATIENCE)
        calls = [score(batcher, "a")]
        await asyncio.sleep(0.01)
        calls += [score(batcher, "bb"), score(batcher, "ccc", "dddd"), score(batcher, "e"), score(batcher, *"ffff")]
        await asyncio.sleep(0.01)
        recorder.gate.set()
        assert [await call for call in calls] == [[1.0], [2.0], [3.0, 4.0], [1.0], [1.0] * 4]
        assert recorder.batches == [["a"], ["bb", "ccc", "dddd"], ["e"], ["f"] * 3, ["f"]]

    run(test)


def test_one_poisonous_completion_fails_its_own_call_only() -> None:
    async def test() -> None:
        recorder = Recorder()
        batcher = Batcher(recorder, 10, PATIENCE)
        first = score(batcher, "first")
        await asyncio.sleep(0.01)
        good, bad, after = score(batcher, "good"), score(batcher, "x", "poison"), score(batcher, "after")
        await asyncio.sleep(0.01)
        recorder.gate.set()
        assert [await first, await good, await after] == [[5.0], [4.0], [5.0]]
        with pytest.raises(ValueError, match="poisoned"):
            await bad
        assert await score(batcher, "later") == [5.0]

    run(test)


def test_a_caller_that_left_is_dropped_from_the_queue() -> None:
    async def test() -> None:
        recorder = Recorder()
        batcher = Batcher(recorder, 10, PATIENCE)
        first = score(batcher, "first")
        await asyncio.sleep(0.01)
        leaver, stayer = score(batcher, "leaver"), score(batcher, "stayer")
        await asyncio.sleep(0.01)
        leaver.cancel()
        await asyncio.sleep(0.01)
        recorder.gate.set()
        assert [await first, await stayer] == [[5.0], [6.0]]
        assert recorder.batches == [["first"], ["stayer"]]

    run(test)


def test_a_hanging_batch_costs_its_callers_and_not_the_next_batch() -> None:
    async def test() -> None:
        recorder = Recorder()
        guarded = RewardWithTimeout("slow", Batcher(recorder, 2, 0.2), 0.2)
        for call in [score(guarded, text) for text in "ab"]:
            with pytest.raises(RewardTimeout):
                await call
        recorder.gate.set()
        assert await score(guarded, "later") == [5.0]
        assert recorder.batches == [["a", "b"], ["later"]], "nothing is tried again for nobody"

    run(test)


def test_a_batch_that_takes_too_long_fails_even_for_one_who_waits_on() -> None:
    async def test() -> None:
        with pytest.raises(TimeoutError):
            await Batcher(Recorder(), 2, 0.1).score(PROMPT, candidates("a"))

    run(test)


def test_a_wrong_count_is_a_failure() -> None:
    async def short(pairs: Sequence[Pair]) -> list[float]:
        return [0.0] * (len(pairs) - 1)

    async def test() -> None:
        with pytest.raises(RewardFailed, match="gave 1 rewards for 2 completions"):
            await score(Batcher(short, 10, PATIENCE), "a", "b")

    run(test)


@pytest.mark.parametrize(
    ("reward", "kind", "words"),
    [
        (raising(ValueError("no")), RewardFailed, "The reward 'tone' failed: ValueError: no"),
        (raising(RewardFailed("no")), RewardFailed, "The reward 'tone' failed: no"),
        (raising(RewardTimeout("no")), RewardTimeout, "The reward 'tone' failed: no"),
        (raising(EngineDead("It is gone.")), EngineDead, "It is gone."),
        (hanging(), RewardTimeout, "The reward 'tone' took more than 0.1 s."),
    ],
)
def test_a_guarded_reward_fails_by_its_name(reward: Reward, kind: type[Exception], words: str) -> None:
    async def test() -> None:
        with pytest.raises(kind) as caught:
            await score(RewardWithTimeout("tone", reward, 0.1), "a")
        assert type(caught.value) is kind
        assert str(caught.value) == words

    run(test)


def test_a_guarded_reward_answers_one_number_a_completion() -> None:
    async def test() -> None:
        assert await score(RewardWithTimeout("tone", giving(1), PATIENCE), "a", "b") == [1.0, 1.0]
        assert await score(RewardWithTimeout("nan", giving(float("inf")), PATIENCE), "a") == [float("inf")]

        class Short(ToyReward):
            async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
                return (await super().score(prompt, completions))[1:]

        with pytest.raises(RewardFailed, match="'short' failed: gave 1 rewards for 2 completions"):
            await score(RewardWithTimeout("short", Short(), PATIENCE), "a", "b")

    run(test)
