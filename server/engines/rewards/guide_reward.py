"""A guide of the policy as a reward of whole completions, computed by the policy's engine."""

from collections.abc import Sequence

from decoders.core import Candidate, Prompt
from decoders.parts.concurrency import together
from server.engines.policy import VllmPolicy


class VllmGuideReward:
    """sum_t log pi_r(y_t | x, y_<t) of a guide, minus its reference's if it has one, in nats."""

    scores_all = True

    def __init__(self, policy: VllmPolicy, guide: str) -> None:
        self._policy = policy
        self._guide = guide

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        return await together(self._policy.guide_reward(prompt, c, self._guide) for c in completions)
