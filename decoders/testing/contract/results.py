"""Checks of what a run gives: its steps, its results, its costs, and what they depend on."""

import time
from typing import Any
from unittest.mock import patch

from decoders.base import Decoder
from decoders.core import Sampling, join
from decoders.models import Models
from decoders.testing.contract.running import PROMPT, REWARDS, assert_closed, isolated, run
from decoders.testing.toy import ToyPolicy
from decoders.testing.toy_rewards import ToyReward
from decoders.testing.watched import (
    GUIDES,
    BackwardsPolicy,
    CountedReward,
    HookedReward,
    WatchedPolicy,
    let_others_run,
    toy_models,
)


def steps_make_up_one_result(decoder: Decoder) -> None:
    isolated(_steps_make_up_the_results(decoder, Sampling(n=1)))


def steps_make_up_several_results(decoder: Decoder) -> None:
    isolated(_steps_make_up_the_results(decoder, Sampling(n=3)))


def streamed_steps_make_up_one_result(decoder: Decoder) -> None:
    isolated(_steps_make_up_the_results(decoder, Sampling(n=1, stream=True)))


def streamed_steps_make_up_several_results(decoder: Decoder) -> None:
    isolated(_steps_make_up_the_results(decoder, Sampling(n=3, stream=True)))


def a_seed_fixes_the_answer_and_another_changes_it(decoder: Decoder) -> None:
    async def check() -> None:
        async def answers() -> list[Any]:
            return [(await run(decoder, toy_models(WatchedPolicy()), Sampling(n=2), s))[1].results for s in range(8)]

        seen = await answers()
        assert seen == await answers(), "one seed gave two answers"
        assert len({tuple(r.candidate.tokens for r in results) for results in seen}) > 1, "all seeds gave one answer"

    isolated(check())


def the_order_of_finishing_changes_nothing(decoder: Decoder) -> None:
    async def check() -> None:
        for seed in range(4):
            _, straight = await run(decoder, toy_models(ToyPolicy(loaded=GUIDES)), Sampling(n=3), seed)
            _, backwards = await run(decoder, toy_models(BackwardsPolicy(loaded=GUIDES)), Sampling(n=3), seed)
            assert straight.results == backwards.results, "the results depend on which sample finishes first"
            assert straight.candidates == backwards.candidates, "the candidates depend on which sample finishes first"
            assert straight.chosen == backwards.chosen, "the choice depends on which sample finishes first"

    isolated(check())


def phases_add_up_to_the_wall_time(decoder: Decoder) -> None:
    """Check it on a clock that only the policy and a reward move."""
    now = 0.0

    async def work() -> None:
        nonlocal now
        now += 1.0

    async def check() -> None:
        models = toy_models(WatchedPolicy(after=work), HookedReward(work))
        with patch.object(time, "perf_counter", lambda: now):
            _, last = await run(decoder, models, Sampling(n=2))
        seconds = last.cost.seconds
        assert sum(seconds.values()) == now > 2.0, f"the phases {seconds} do not add up to {now} s"
        if not _draws_beside_its_candidates(decoder):
            assert seconds["generate"] >= last.cost.candidates, "drawing took time that is not in `generate`"

    isolated(check())


async def _steps_make_up_the_results(decoder: Decoder, sampling: Sampling) -> None:
    """Check steps against results, rewards against the toy's, and costs against what the models counted."""
    policy, models = WatchedPolicy(before=let_others_run), toy_models(WatchedPolicy())
    counted = {name: CountedReward(reward) for name, reward in models.rewards.items()}
    steps, last = await run(decoder, Models(policy, counted), sampling)
    assert len(last.results) == sampling.n, f"{len(last.results)} results instead of {sampling.n}"
    for index, result in enumerate(last.results):
        pieces = [s.piece for s in steps if s.index == index]
        finished = [p.finish is not None for p in pieces]
        assert finished == [False] * (len(pieces) - 1) + [True], "not just the last piece of a result is its end"
        assert join(pieces) == result.candidate, "the steps do not make up the result"
        assert "".join(p.text for p in pieces) == result.candidate.text, "the steps' texts do not make up the result's"
        assert result.rewards["default"] == ToyReward().of(result.candidate.tokens), "a reward is another answer's"
        assert result.rewards.keys() >= REWARDS.keys(), "a reward that the strategy names is not in the result"
    assert {s.index for s in steps} == set(range(sampling.n)), "a step belongs to no result"
    assert_closed(policy)
    assert last.cost.generated_tokens == policy.tokens > 0, "the cost leaves out tokens that were drawn"
    read = sum(reward.tokens for reward in counted.values())
    assert last.cost.scored_tokens == read, "the cost leaves out tokens that rewards have read"
    most = await decoder.max_sequences(PROMPT, toy_models(WatchedPolicy()), Sampling(n=sampling.n))
    assert policy.peak <= most, f"it drew {policy.peak} sequences at the same time, and max_sequences is {most}"


def _draws_beside_its_candidates(decoder: Decoder) -> bool:
    """Return whether it draws rollouts or proposals at the same time as candidates: their times overlap."""
    return bool(getattr(decoder, "calibrated", False)) or getattr(decoder, "proposal", None) is not None
