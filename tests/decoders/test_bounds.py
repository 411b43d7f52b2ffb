"""No strategy draws more than its bounds promise, with short blocks, long ones and many refusals."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from decoders import STRATEGIES, BestOfN, Cascade, Controlled, Rejection
from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Done
from decoders.models import Calibration, Models
from decoders.rng import SeededRng
from decoders.score import Score
from decoders.testing import EOS, GUIDES, ToyBrevity, ToyPolicy, ToyReward, WatchedPolicy, let_others_run
from tests.decoders.test_contract import CALIBRATED, GUIDED, PLAIN, PROPOSALS, describe, instance

PROMPT = Prompt((1, 2), "good bad")


def counting() -> WatchedPolicy:
    """Return a toy with answers of up to 40 words; its concurrent draws take turns."""
    return WatchedPolicy(before=let_others_run, inner=ToyPolicy(longest=40, loaded=GUIDES))


@dataclass
class Store:
    """A calibration store in memory, empty at first."""

    kept: dict[str, list[float | None]] = field(default_factory=dict)
    rollouts: int = 5

    async def stored(self, prompt: Prompt, sampling: Sampling, reward: str) -> Sequence[float | None]:  # noqa: ARG002
        return self.kept.get(reward, [])

    async def keep(self, prompt: Prompt, sampling: Sampling, reward: str, rewards: Sequence[float | None]) -> None:  # noqa: ARG002
        self.kept[reward] = list(rewards)


def models(policy: WatchedPolicy, store: Calibration | None = None) -> Models:
    return Models(policy, {"default": ToyReward(), "brevity": ToyBrevity()}, store)


def instances(name: str, **fields: Any) -> Decoder:
    [strategy] = [s for s in STRATEGIES if s.model_fields["strategy"].default == name]
    return instance(strategy, **fields)


REFUSING = {"accept_threshold": 99.0, "accept_start": 99.0, "beta": 0.1}
RAGGED: list[Decoder] = [
    instances("controlled", block_stop=[" good"], block_tokens=7),
    instances("controlled", block_stop=[" good", " odd"], block_tokens=4, beams=3),
    instances("controlled", block_tokens=5),
    instances("cascade", **REFUSING, entropy_threshold=1.4, min_segment_tokens=1, max_tries=5, batch=2),
    instances("cascade", **REFUSING, entropy_threshold=1.4, min_segment_tokens=3, max_segment_tokens=9, max_tries=4),
    instances("cascade", **REFUSING, entropy_threshold=0.0, min_segment_tokens=9, max_segment_tokens=4, max_tries=3),
    instances("particles", particles=6, block_tokens=3, beta=0.1),
    instances("speculative_rejection", n=8, checkpoints=[2, 3, 9, 50], keep=0.3),
    instances("rejection", r_max=99.0, beta=9.0, batch=3, max_draws=10),
    instances("best_of_n", n=4, poisson=True),
    instances("best_of_n", n=9, batch=2, stop_at=3.0),
]
EVERY = [*PLAIN, *GUIDED, *CALIBRATED, *PROPOSALS, *RAGGED]


async def run(decoder: Decoder, models: Models, sampling: Sampling, seed: int) -> Done:
    events = [event async for event in decoder.decode(PROMPT, models, sampling, SeededRng(seed))]
    assert isinstance(events[-1], Done)
    return events[-1]


@pytest.mark.parametrize("stored", [False, True], ids=["", "cold store"])
@pytest.mark.parametrize("decoder", EVERY, ids=lambda d: describe(d))
def test_no_strategy_draws_more_than_it_promises(decoder: Decoder, stored: bool) -> None:
    async def test() -> None:
        counts = (1,) if "poisson" in decoder.model_fields_set else (1, 3)
        for n, max_tokens in product(counts, (1, 7, 24)):
            sampling = Sampling(n=n, max_tokens=max_tokens)
            for seed in range(8):
                policy = counting()
                world = models(policy, Store() if stored else None)
                most, at_once = decoder.max_cost(sampling, world), await decoder.max_sequences(PROMPT, world, sampling)
                done = await run(decoder, world, sampling, seed)
                assert policy.tokens <= most.generated_tokens
                assert done.cost.candidates <= most.candidates
                assert policy.peak <= at_once
                assert done.cost.generated_tokens == policy.tokens
                if "speculative" not in describe(decoder):  # whose candidates are drawn in several stretches
                    assert done.cost.candidates == policy.candidates

    asyncio.run(test())


def test_refused_segments_count_though_they_are_longer_than_the_accepted_one() -> None:
    """The answer does not end by itself, and the shortest of ten segments is taken each time."""
    decoder = instances(
        "cascade", **REFUSING, reward="brevity", entropy_threshold=1.56, min_segment_tokens=1, max_tries=10
    )
    sampling = Sampling(max_tokens=24, logit_bias={EOS: -100.0})

    async def test() -> None:
        policy = counting()
        most = decoder.max_cost(sampling, models(policy))
        done = await run(decoder, models(policy), sampling, 0)
        assert policy.tokens == done.cost.generated_tokens <= most.generated_tokens
        assert policy.tokens > 10 * (24 + 24)  # as if all ten were as long as the one that is taken, and a token more
        assert done.cost.candidates <= most.candidates

    asyncio.run(test())


@pytest.mark.parametrize("decoder", CALIBRATED, ids=describe)
def test_a_warm_store_needs_no_places(decoder: Decoder) -> None:
    async def test() -> None:
        store = Store()
        world = models(counting(), store)
        await run(decoder, world, Sampling(max_tokens=9), 0)
        policy = counting()
        plain = decoder.model_copy(update={"calibrated": False})
        at_once = await decoder.max_sequences(PROMPT, models(policy, store), Sampling(max_tokens=9))
        assert at_once == await plain.max_sequences(PROMPT, models(policy, store), Sampling(max_tokens=9))
        await run(decoder, models(policy, store), Sampling(max_tokens=9), 1)
        assert policy.peak <= at_once

    asyncio.run(test())


def test_rollouts_that_may_not_be_drawn_are_not_counted() -> None:
    decoder = BestOfN(n=2, reward="default", calibrated=True, rollouts=50, on_demand=False)
    world = models(counting(), Store())
    assert decoder.max_cost(Sampling(max_tokens=4), world).candidates == 2

    async def test() -> None:
        assert await decoder.max_sequences(PROMPT, world, Sampling(max_tokens=4)) == 2
        with pytest.raises(InvalidRequest, match="no 50 stored rollouts"):
            await run(decoder, world, Sampling(max_tokens=4), 0)

    asyncio.run(test())


def test_rewards_alone_count_their_rollouts() -> None:
    async def test() -> None:
        done = Candidate((1, 0), " good", "stop")
        score = Score([done], "default", calibrated=True, number=7)
        policy, store = counting(), Store()
        assert await score.max_sequences(PROMPT, models(policy, store), Sampling(max_tokens=4)) == 7
        async for _ in score.decode(PROMPT, models(policy, store), Sampling(max_tokens=4), SeededRng(0)):
            pass
        assert policy.peak == 7
        assert policy.tokens <= score.max_cost(Sampling(max_tokens=4), models(policy, store)).generated_tokens
        assert await score.max_sequences(PROMPT, models(policy, store), Sampling(max_tokens=4)) == 1

    asyncio.run(test())


def test_the_bounds_are_no_wider_than_they_must_be() -> None:
    """The bounds are reached if every answer is as long as it can be, and every try is refused."""
    world = models(counting())
    whole = Controlled(candidates=2, block_tokens=8).max_cost(Sampling(max_tokens=24), world)
    assert (whole.candidates, whole.generated_tokens) == (6, 48)
    ragged = Controlled(candidates=2, block_tokens=8, block_stop=["."]).max_cost(Sampling(max_tokens=10), world)
    assert (ragged.candidates, ragged.generated_tokens) == (20, 2 * (8 + 8 + 8 + 7 + 6 + 5 + 4 + 3 + 2 + 1))
    cascade = Cascade(accept_threshold=1.0, max_tries=3, min_segment_tokens=4, max_segment_tokens=6)
    most = cascade.max_cost(Sampling(max_tokens=10), world)
    assert (most.candidates, most.generated_tokens) == (9, 3 * (6 + 6 + 2))
    assert Rejection(r_max=1.0, max_draws=7).max_cost(Sampling(max_tokens=10), world).generated_tokens == 70
