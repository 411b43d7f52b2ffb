"""Scoring alone: the rewards of given completions, in their order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from decoders.core import Candidate, Prompt, Sampling
from decoders.errors import InvalidRequest, RewardFailed, UnknownReward, UnreadableText
from decoders.events import Done
from decoders.models import Models, RewardSpec
from decoders.policy import TokenLaw
from decoders.rng import SeededRng
from decoders.score import Score, ScoreInfo
from decoders.testing import ToyBrevity, ToyGuide, ToyPolicy, ToyReward
from server.engines.rewards.reward_timeout import RewardWithTimeout

PROMPT = Prompt((1, 2, 3), "good bad plain")
COMPLETIONS = [Candidate((1, 0), " good", "stop"), Candidate((2, 2, 0), " bad bad", "stop")]
MODELS = Models(ToyPolicy(), {"worth": ToyReward(), "brevity": ToyBrevity()})


@dataclass
class Stuck:
    """A reward that never answers, and notes its cancellation."""

    stopped: bool = False

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True
        return []


class Failing:
    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        await asyncio.sleep(0)
        raise RewardFailed("no answer")


async def score(models: Models, reward: RewardSpec) -> Done:
    (last,) = [e async for e in Score(COMPLETIONS, reward).decode(PROMPT, models, Sampling(), SeededRng(0))]
    assert isinstance(last, Done)
    return last


def scored(models: Models, reward: RewardSpec) -> Done:
    return asyncio.run(score(models, reward))


def test_each_completion_gets_its_rewards_in_order() -> None:
    last = scored(MODELS, {"brevity": 1.0, "worth": 1.0})
    assert [r.candidate for r in last.results] == COMPLETIONS
    assert [r.rewards for r in last.results] == [{"brevity": -1, "worth": 1}, {"brevity": -2, "worth": -2}]
    assert last.cost.generated_tokens == 0
    assert last.cost.scored_tokens == 2 * (2 + 3 + 2 * len(PROMPT.tokens))


def test_one_reward_by_name_or_none_that_is_meant() -> None:
    assert [r.rewards for r in scored(MODELS, "worth").results] == [{"worth": 1}, {"worth": -2}]
    with pytest.raises(UnknownReward):
        scored(MODELS, "absent")
    with pytest.raises(InvalidRequest, match="Name a reward"):
        scored(MODELS, None)


def test_a_failing_reward_is_that_failure_and_stops_the_rest() -> None:
    async def test() -> None:
        stuck = Stuck()
        with pytest.raises(RewardFailed, match="no answer"):
            await score(Models(ToyPolicy(), {"a": stuck, "b": Failing()}), {"a": 1.0, "b": 1.0})
        assert stuck.stopped, "before the loop ends and stops everything"

    asyncio.run(test())


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        (Prompt((1, 2), ""), "completions"),
        (Prompt((1,) * 5, ""), "prompt"),
        (Prompt((), ""), "prompt"),
        (Prompt((1, 2), "", ({"role": "user", "content": ""},)), "completions"),
        (Prompt((1,) * 5, "", ({"role": "user", "content": ""},)), "messages"),
    ],
)
def test_a_text_that_a_reward_cannot_read_is_the_callers_fault(prompt: Prompt, field: str) -> None:
    class Short:
        async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
            if not prompt.tokens or any(len(prompt.tokens) + len(c.tokens) > 4 for c in completions):
                raise UnreadableText("it reads 1 to 4 tokens")
            return [0.0] * len(completions)

    async def run() -> None:
        models = Models(ToyPolicy(), {"short": RewardWithTimeout("short", Short(), 1.0)})
        async for _ in Score(COMPLETIONS, None).decode(prompt, models, Sampling(), SeededRng(0)):
            pass

    with pytest.raises(InvalidRequest, match="The reward 'short' failed: it reads 1 to 4 tokens") as caught:
        asyncio.run(run())
    assert caught.value.field == field


def test_log_probabilities_are_those_of_the_laws_token_by_token() -> None:
    policy = ToyPolicy(loaded={"kind": ToyGuide()})
    models = Models(policy)
    guided = TokenLaw(1.0, {"kind": 2.0})

    async def measured() -> Done:
        run = Score(COMPLETIONS, None, policy_logprob=True, guides={"kind": 2.0}).decode(
            PROMPT, models, Sampling(), SeededRng(0)
        )
        [last] = [event async for event in run]
        assert isinstance(last, Done)
        return last

    for completion, result in zip(COMPLETIONS, asyncio.run(measured()).results, strict=True):
        for have, law in (
            (result.policy_logprob, TokenLaw()),
            (result.diagnostics(ScoreInfo).guided_logprob, guided),
        ):
            tokens = completion.tokens
            steps = [policy.guided(PROMPT.tokens, tokens[:i], law)[t] for i, t in enumerate(tokens)]
            assert have == pytest.approx(sum(steps), abs=1e-9)
        assert result.rewards == {}


def test_without_rewards_only_log_probabilities_can_be_asked_for() -> None:
    models = Models(ToyPolicy())
    Score(COMPLETIONS, None, policy_logprob=True).check(models)
    with pytest.raises(InvalidRequest, match="Name a reward"):
        Score(COMPLETIONS, None).check(models)
    with pytest.raises(InvalidRequest, match="The guide 'kind' is not loaded"):
        Score(COMPLETIONS, None, guides={"kind": 1.0}).check(models)
