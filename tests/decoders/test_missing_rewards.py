"""Where a candidate may lack a reward, the answer is conditioned on others having one, and no bound is claimed."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from decoders import BestOfN, Controlled, Rejection, Sample, SpeculativeRejection
from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Sampling
from decoders.events import Done
from decoders.maths.transforms import Identity, Log
from decoders.models import Models, Reward
from decoders.parts.selection import Softmax
from decoders.parts.vote import Vote
from decoders.rejection import RejectionInfo
from decoders.testing import ToyPolicy, ToyReward, bind, collect, done, every_path
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.function_call import RewardCall
from server.engines.rewards.function_reward import call_in_thread
from server.engines.rewards.reward_timeout import RewardWithTimeout
from tests.support import laws
from tests.support.fakes import giving, world
from tests.support.serving import PATIENCE, serving

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=3)
PI = POLICY.completions()
BEGINNING = 1


@dataclass(frozen=True)
class Partial:
    """A reward of answers that begin with one word; others have none. It does not declare `scores_all`."""

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [ToyReward().of(c.tokens) if c.tokens[:1] == (BEGINNING,) else math.nan for c in completions]


SEARCHES: list[Decoder] = [
    BestOfN(n=1, return_kl=True),
    BestOfN(n=2, return_kl=True),
    BestOfN(n=2, select=Softmax(), return_kl=True),
    BestOfN(n=2, proposal=Sample(), return_kl=True),
    Controlled(candidates=1, block_tokens=2, return_kl=True),
    Controlled(candidates=2, block_tokens=2, return_kl=True),
    SpeculativeRejection(n=1, checkpoints=[1], return_kl=True),
    SpeculativeRejection(n=2, checkpoints=[1], return_kl=True),
]


def test_an_answer_that_is_conditioned_on_its_reward_is_far_from_the_policy() -> None:
    """Best-of-1 returns the policy given a reward; its divergence is positive, and best-of-1's bound would be 0."""
    ends = asyncio.run(every_path(bind(BestOfN(n=1), Models(POLICY, {"default": Partial()}))))
    have = collect(
        [(p, end) for p, end in ends if isinstance(end, Done)], lambda e: done(e).results[0].candidate.tokens
    )
    share = math.fsum(have.values())
    assert laws.kl({y: p / share for y, p in have.items()}, PI) == pytest.approx(-math.log(share), abs=EXACT)
    assert -math.log(share) > 0.5


@pytest.mark.parametrize("decoder", SEARCHES)
def test_no_bound_is_claimed_in_any_run(decoder: Decoder) -> None:
    """None is claimed even in a run in which every candidate had a reward."""
    ends = [end for _, end in asyncio.run(every_path(bind(decoder, Models(POLICY, {"default": Partial()}))))]
    runs = [end for end in ends if isinstance(end, Done)]
    assert any(all(math.isfinite(s.total) for s in end.candidates) for end in runs)
    assert all(end.results[0].kl is None for end in runs)


@pytest.mark.parametrize("decoder", SEARCHES)
def test_a_reward_that_says_it_scores_all_has_a_bound(decoder: Decoder) -> None:
    ends = asyncio.run(every_path(bind(decoder, Models(POLICY, {"default": ToyReward()}))))
    assert all(done(end).results[0].kl is not None for _, end in ends)


@pytest.mark.parametrize("decoder", SEARCHES)
def test_one_that_says_so_and_does_not_has_none_in_that_run(decoder: Decoder) -> None:
    class Boaster(Partial):
        scores_all = True

    for _, end in asyncio.run(every_path(bind(decoder, Models(POLICY, {"default": Boaster()})))):
        if isinstance(end, Done):
            missing = any(not math.isfinite(s.total) for s in end.candidates)
            assert not missing or end.results[0].kl is None


def test_a_transform_that_puts_the_least_out_has_no_bound() -> None:
    for transform, known in ((Identity(), True), (Log(), False)):
        rollouts: Literal["candidates", 1]
        for rollouts in ("candidates", 1):
            decoder = BestOfN(n=2, calibrated=True, rollouts=rollouts, transform=transform, return_kl=True)
            ends = asyncio.run(every_path(bind(decoder, Models(POLICY, {"default": ToyReward()}))))
            assert all((end.results[0].kl is not None) == known for _, end in ends if isinstance(end, Done))


def test_a_vote_that_needs_no_reward_loses_no_candidate() -> None:
    decoder = BestOfN(n=2, select=Vote(answer="good"), return_kl=True)
    ends = asyncio.run(every_path(bind(decoder, Models(POLICY))))
    assert all(done(end).results[0].kl is not None for _, end in ends)


def test_rejections_divergence_counts_what_is_out_as_weight_zero() -> None:
    """The target is the tilt of the policy given a reward, and an accepted answer has exactly that law."""
    decoder = Rejection(r_max=2.0, batch=1, max_draws=1, return_kl=True)
    ends = asyncio.run(every_path(bind(decoder, Models(POLICY, {"default": Partial()}))))
    accepted = [
        (p, end) for p, end in ends if isinstance(end, Done) and end.results[0].diagnostics(RejectionInfo).accepted
    ]
    have = collect(accepted, lambda e: done(e).results[0].candidate.tokens)
    mass = math.fsum(have.values())
    within = {y: p for y, p in PI.items() if y[0] == BEGINNING}
    want = laws.tilted(within, {y: ToyReward().of(y) for y in within}, 1.0)
    assert {y: p / mass for y, p in have.items()} == pytest.approx(want, abs=EXACT)
    assert all(done(end).results[0].kl is not None for _, end in accepted)


def test_a_guard_passes_on_what_a_reward_says_of_itself_until_it_is_seen_to_be_wrong() -> None:
    def function(scores: float, *, scores_all: bool) -> Reward:
        call = RewardCall(lambda _, texts: [scores] * len(texts), None)
        batcher = Batcher(call_in_thread(call), 8, PATIENCE, scores_all=scores_all)
        return RewardWithTimeout("tone", batcher, PATIENCE)

    async def says(reward: Reward) -> tuple[bool, bool]:
        decoder = BestOfN(n=1, reward="tone")
        models = Models(POLICY, {"tone": reward})
        before = decoder.keeps_all(models)
        await reward.score(Prompt((), ""), [Candidate((0,), "")])
        return before, decoder.keeps_all(models)

    assert asyncio.run(says(function(1.0, scores_all=True))) == (True, True)
    assert asyncio.run(says(function(1.0, scores_all=False))) == (False, False)
    assert asyncio.run(says(function(math.nan, scores_all=True))) == (True, False)


def test_over_http_a_function_that_does_not_say_so_has_no_bound() -> None:
    with serving(world(rewards={"default": giving(1.0)})) as api:
        decoding = {"strategy": "best_of_n", "n": 1, "return_kl": True}
        assert api.complete(decoding=decoding)["decoding"]["results"][0]["kl"] is None
        assert api.metric("decant_kl_nats_count", strategy="best_of_n") in (None, 0)


def test_greedy_or_not_nothing_is_claimed() -> None:
    decoder = BestOfN(n=1, return_kl=True)
    models = Models(POLICY, {"default": Partial()})
    for _, end in asyncio.run(every_path(bind(decoder, models, Sampling(temperature=0.0)))):
        if isinstance(end, Done):
            assert end.results[0].kl is None
