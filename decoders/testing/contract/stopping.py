"""Checks that a run which ends early, or fails, leaves no work behind."""

import asyncio

from decoders.base import Decoder
from decoders.core import Sampling
from decoders.errors import EngineFailed, RewardFailed
from decoders.events import Step
from decoders.models import Reward
from decoders.rng import SeededRng
from decoders.testing.contract.running import PATIENCE_S, PROMPT, assert_closed, failure, isolated, run
from decoders.testing.watched import (
    BrokenReward,
    HookedReward,
    WatchedPolicy,
    fail,
    forever,
    nothing,
    toy_models,
)


def closing_it_midway_closes_the_policys_generators(decoder: Decoder) -> None:
    async def check() -> None:
        policy = WatchedPolicy()
        run = decoder.decode(PROMPT, toy_models(policy), Sampling(n=3, stream=True), SeededRng(0))
        assert isinstance(await anext(run), Step), "a run begins with a Step"
        await run.aclose()
        assert policy.tokens > 0, "the first Step came before any token was drawn"
        assert_closed(policy)

    isolated(check())


def cancelling_it_while_it_draws_stops_all_work(decoder: Decoder) -> None:
    isolated(_cancelling_it_stops_all_work(decoder, where="policy"))


def cancelling_it_while_it_scores_stops_all_work(decoder: Decoder) -> None:
    isolated(_cancelling_it_stops_all_work(decoder, where="reward"))


def a_reward_that_fails_later_fails_the_run(decoder: Decoder) -> None:
    isolated(_a_failing_reward_fails_the_run(decoder, HookedReward(fail)))


def a_reward_that_fails_at_once_fails_the_run(decoder: Decoder) -> None:
    isolated(_a_failing_reward_fails_the_run(decoder, BrokenReward()))


def a_failing_engine_fails_the_run(decoder: Decoder) -> None:
    async def lose() -> None:
        raise EngineFailed("lost")

    async def check() -> None:
        policy = WatchedPolicy(after=lose)
        error = await failure(run(decoder, toy_models(policy, HookedReward(forever)), Sampling(n=2)))
        assert isinstance(error, EngineFailed), f"an engine's failure came out as {error!r}"
        assert "lost" in str(error), f"the engine's failure became {error!r}"
        assert_closed(policy)

    isolated(check())


async def _cancelling_it_stops_all_work(decoder: Decoder, where: str) -> None:
    reached = asyncio.Event()

    async def stuck() -> None:
        reached.set()
        await forever()

    policy = WatchedPolicy(after=stuck if where == "policy" else nothing)
    models = toy_models(policy, HookedReward(stuck if where == "reward" else nothing))
    task = asyncio.create_task(run(decoder, models, Sampling(n=2)))
    async with asyncio.timeout(PATIENCE_S):
        await reached.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), "a cancelled run did not end by its cancellation"
    assert_closed(policy)


async def _a_failing_reward_fails_the_run(decoder: Decoder, failing: Reward) -> None:
    policy = WatchedPolicy()
    error = await failure(run(decoder, toy_models(policy, HookedReward(forever), failing), Sampling(n=2)))
    assert isinstance(error, RewardFailed), f"a reward's failure came out as {error!r}"
    assert "no answer" in str(error), f"the reward's failure became {error!r}"
    assert_closed(policy)
