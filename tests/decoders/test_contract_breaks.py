"""The contract's checks find strategies that break it, and say how."""

from dataclasses import replace

import pytest

from decoders import Sample
from decoders.base import Decoder
from decoders.core import Prompt, Rng, Sampling
from decoders.errors import RewardFailed
from decoders.events import Cost, Done, Run
from decoders.models import Models
from decoders.rng import SeededRng
from decoders.testing import CONTRACT, REWARDS

CHECKS = {check.__name__: check for check in CONTRACT}


class Uncounted(Sample, frozen=True, extra="forbid"):
    """A sample that reports no cost."""

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        async for event in super().decode(prompt, models, sampling, rng):
            yield replace(event, cost=Cost()) if isinstance(event, Done) else event


class Seedless(Sample, frozen=True, extra="forbid"):
    """A sample with its own randomness."""

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:  # noqa: ARG002
        async for event in super().decode(prompt, models, sampling, SeededRng()):
            yield event


class Leaking(Sample, frozen=True, extra="forbid"):
    """A sample that leaves the policy's generator open when it is closed."""

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        run = super().decode(prompt, models, sampling, rng)
        _LEAKED.append(run)  # otherwise garbage collection would close it
        async for event in run:
            yield event


class Forgiving(Sample, frozen=True, extra="forbid"):
    """A sample that ends in an empty answer when a reward fails."""

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        try:
            async for event in super().decode(prompt, models, sampling, rng):
                yield event
        except RewardFailed:
            yield Done((), Cost())


_LEAKED: list[Run] = []


@pytest.mark.parametrize(
    ("strategy", "check", "words"),
    [
        (Uncounted, "steps_make_up_one_result", "the cost leaves out tokens"),
        (Uncounted, "it_states_its_law_and_accepts_the_toy", "no paragraph that begins with `Law`"),
        (Seedless, "a_seed_fixes_the_answer_and_another_changes_it", "one seed gave two answers"),
        (Leaking, "closing_it_midway_closes_the_policys_generators", "1 generators of the policy are still open"),
        (Forgiving, "a_reward_that_fails_at_once_fails_the_run", "the run ended well although a model failed"),
    ],
)
def test_a_broken_strategy_is_found(strategy: type[Decoder], check: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        CHECKS[check](strategy.model_validate({"reward": REWARDS}))


def test_a_strategy_without_both_rewards_cannot_be_checked() -> None:
    with pytest.raises(AssertionError, match="checked with reward="):
        CHECKS["steps_make_up_one_result"](Sample(reward="default"))
