"""What every strategy owes the server, tried on the toy: its events, its costs, and no work left behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from pydantic import TypeAdapter, ValidationError

from decoders import STRATEGIES, BestOfN, Rejection, RewardGuided, Strategy
from decoders.base import Decoder
from decoders.core import Prompt, Sampling, join
from decoders.errors import EngineFailed, RewardFailed
from decoders.events import Done, Event, Step
from decoders.models import Models, Reward
from decoders.rng import SeededRng
from decoders.search import Search
from server.engines.toy import ToyPolicy, ToyReward
from tests.support.watched import (
    GUIDES,
    BackwardsPolicy,
    BrokenReward,
    CountedReward,
    HookedReward,
    WatchedPolicy,
    fail,
    forever,
    let_others_run,
    nothing,
    world,
)

PROMPT = Prompt((1, 2), "good bad")
BOTH = {"default": 1.0, "brevity": 0.5}
NEEDS: dict[str, dict[str, float]] = {
    "rejection": {"r_max": 99.0},
    "cascade": {"accept_threshold": 1.0, "accept_start": 0.0},
}


def instance(strategy: type[Decoder], **more: object) -> Decoder:
    """The strategy with what it cannot do without."""
    return strategy.model_validate({"reward": BOTH, **NEEDS.get(name_of(strategy), {}), **more})


def name_of(strategy: type[Decoder]) -> str:
    name: str = strategy.model_fields["strategy"].default
    return name


PLAIN = [instance(s) for s in STRATEGIES if s is not RewardGuided]
GUIDED = [instance(s, guides={"kind": 0.5}) for s in STRATEGIES]
CALIBRATED = [
    instance(s, calibrated=True, rollouts=3, **({"r_max": None} if s is Rejection else {}))
    for s in STRATEGIES
    if issubclass(s, Search)
]
PROPOSALS = [
    instance(BestOfN, n=3, proposal={**instance(s).model_dump(exclude_defaults=True), "strategy": name_of(s)})
    for s in STRATEGIES
    if s is not RewardGuided
]


def called(decoder: Decoder) -> str:
    """A name for the tests."""
    fields = decoder.model_dump()
    proposal = fields.get("proposal")
    return " ".join(
        [
            fields["strategy"],
            *(["guided"] if decoder.guides else []),
            *(["calibrated"] if fields.get("calibrated") else []),
            *([f"over {proposal['strategy']}"] if proposal else []),
        ]
    )


every = pytest.mark.parametrize("decoder", [*PLAIN, *GUIDED, *CALIBRATED, *PROPOSALS], ids=called)


async def collect(decoder: Decoder, models: Models, sampling: Sampling, seed: int = 0) -> tuple[list[Step], Done]:
    events: list[Event] = [e async for e in decoder.decode(PROMPT, models, sampling, SeededRng(seed))]
    steps = [e for e in events if isinstance(e, Step)]
    last = events[-1]
    assert isinstance(last, Done)
    assert len(steps) == len(events) - 1, "steps, then one end"
    return steps, last


def quietly(test: Callable[[], Awaitable[None]]) -> None:
    """Run it in a loop of its own, and see that it leaves no task behind."""

    async def main() -> None:
        await test()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@every
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_steps_make_up_the_results_and_costs_are_those_of_the_policy(decoder: Decoder, n: int, stream: bool) -> None:
    async def test() -> None:
        policy, models = WatchedPolicy(before=let_others_run), world(WatchedPolicy())
        counted = {name: CountedReward(reward) for name, reward in models.rewards.items()}
        steps, last = await collect(decoder, Models(policy, counted), Sampling(n=n, stream=stream))
        assert len(last.results) == n
        for index, result in enumerate(last.results):
            pieces = [s.piece for s in steps if s.index == index]
            assert [p.finish is None for p in pieces] == [True] * (len(pieces) - 1) + [False]
            assert join(pieces) == result.candidate
            assert "".join(p.text for p in pieces) == result.candidate.text
            assert result.rewards["default"] == ToyReward().of(result.candidate.tokens)
            assert set(BOTH) <= set(result.rewards)
        assert {s.index for s in steps} == set(range(n))
        assert policy.open == 0
        assert last.cost.generated_tokens == policy.tokens > 0
        assert last.cost.scored_tokens == sum(reward.tokens for reward in counted.values())
        assert policy.peak <= await decoder.max_sequences(PROMPT, world(WatchedPolicy()), Sampling(n=n))

    quietly(test)


@every
def test_a_seed_fixes_the_answer_and_another_changes_it(decoder: Decoder) -> None:
    async def test() -> None:
        def run(seed: int) -> Awaitable[tuple[list[Step], Done]]:
            return collect(decoder, world(WatchedPolicy()), Sampling(n=2), seed)

        seen = [(await run(seed))[1].results for seed in range(8)]
        again = [(await run(seed))[1].results for seed in range(8)]
        assert seen == again
        assert len({tuple(r.candidate.tokens for r in results) for results in seen}) > 1

    quietly(test)


@every
def test_the_order_of_finishing_changes_nothing(decoder: Decoder) -> None:
    async def test() -> None:
        for seed in range(4):
            _, straight = await collect(decoder, world(ToyPolicy(loaded=GUIDES)), Sampling(n=3), seed)
            _, backwards = await collect(decoder, world(BackwardsPolicy(loaded=GUIDES)), Sampling(n=3), seed)
            assert straight.results == backwards.results
            assert (straight.candidates, straight.chosen) == (backwards.candidates, backwards.chosen)

    quietly(test)


@every
def test_closing_it_midway_closes_the_policys_generators(decoder: Decoder) -> None:
    async def test() -> None:
        policy = WatchedPolicy()
        run = decoder.decode(PROMPT, world(policy), Sampling(n=3, stream=True), SeededRng(0))
        assert isinstance(await anext(run), Step)
        await run.aclose()
        assert policy.tokens > 0
        assert policy.open == 0

    quietly(test)


@every
@pytest.mark.parametrize("where", ["policy", "reward"])
def test_cancelling_it_closes_the_policys_generators_and_its_tasks(decoder: Decoder, where: str) -> None:
    async def test() -> None:
        reached = asyncio.Event()

        async def stuck() -> None:
            reached.set()
            await forever()

        policy = WatchedPolicy(after=stuck if where == "policy" else nothing)
        models = world(policy, HookedReward(stuck if where == "reward" else nothing))
        task = asyncio.create_task(collect(decoder, models, Sampling(n=2)))
        async with asyncio.timeout(5):
            await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert policy.open == 0

    quietly(test)


@every
@pytest.mark.parametrize("failing", [HookedReward(fail), BrokenReward()], ids=["later", "at once"])
def test_a_failing_reward_is_that_failure_and_stops_the_rest(decoder: Decoder, failing: Reward) -> None:
    async def test() -> None:
        policy = WatchedPolicy()
        models = world(policy, HookedReward(forever), failing)
        with pytest.raises(RewardFailed, match="no answer"):
            async with asyncio.timeout(5):
                await collect(decoder, models, Sampling(n=2))
        assert policy.open == 0

    quietly(test)


@every
def test_a_failing_engine_is_that_failure_and_stops_the_rest(decoder: Decoder) -> None:
    async def test() -> None:
        async def fail() -> None:
            raise EngineFailed("lost")

        policy = WatchedPolicy(after=fail)
        with pytest.raises(EngineFailed, match="lost"):
            async with asyncio.timeout(5):
                await collect(decoder, world(policy, HookedReward(forever)), Sampling(n=2))
        assert policy.open == 0

    quietly(test)


@every
def test_phases_add_up_to_the_wall_time(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the policy and a reward move."""
    now = 0.0

    async def work() -> None:
        nonlocal now
        now += 1.0

    async def test() -> None:
        policy = WatchedPolicy(after=work)
        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda: now)
            _, last = await collect(decoder, world(policy, HookedReward(work)), Sampling(n=2))
        assert sum(last.cost.seconds.values()) == now > 2.0
        if decoder in (*PLAIN, *GUIDED):  # the others also draw at the same time as they draw
            assert last.cost.seconds["generate"] >= last.cost.candidates

    quietly(test)


@every
def test_it_is_a_closed_value_that_survives_json(decoder: Decoder) -> None:
    strategy: TypeAdapter[Decoder] = TypeAdapter(Strategy)
    assert strategy.validate_json(strategy.dump_json(decoder)) == decoder
    name = decoder.model_dump()["strategy"]
    assert type(strategy.validate_python({"strategy": name, **NEEDS.get(name, {})})) is type(decoder)
    with pytest.raises(ValidationError, match="Extra inputs"):
        strategy.validate_python({"strategy": name, "unheard_of": 1})
    with pytest.raises(ValidationError, match="frozen"):
        decoder.reward = None  # type: ignore[misc]
    with pytest.raises(ValidationError, match="does not match any"):
        strategy.validate_python({"strategy": "unheard_of"})


@every
def test_it_says_its_law_and_its_size_and_accepts_the_toy(decoder: Decoder) -> None:
    assert "\n    Law" in (type(decoder).__doc__ or "")
    decoder.check(world(WatchedPolicy()), Sampling(n=2))
