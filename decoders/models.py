"""What is loaded for a strategy: the policy, named rewards, and a store of what calibrates them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from decoders.core import Candidate, Policy, Prompt, Sampling
from decoders.errors import InvalidRequest, UnknownGuide, UnknownReward

RewardSpec = str | Mapping[str, float] | None
GUIDE_WEIGHT = 100.0  # a guide's weight is at most this, either way


class Reward(Protocol):
    """A frozen objective of completions: greater is better, in the judge's own units."""

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        """Return one reward per completion. Raises `RewardFailed`.

        None says that the reward does not apply to a completion, whose other rewards then decide; a number that is not
        finite says that there should be one and is not, which puts the completion out.
        """


def scores_all(reward: Reward) -> bool:
    """Whether it says, by an attribute `scores_all`, that it has a finite number for every completion."""
    return bool(getattr(reward, "scores_all", False))


class Calibration(Protocol):
    """A store of rewards of policy samples, by prompt, way of sampling and reward."""

    @property
    def rollouts(self) -> int:
        """How many samples a prompt is to have where a request does not say."""

    async def stored(self, prompt: Prompt, sampling: Sampling, reward: str) -> Sequence[float | None]:
        """Return one for each sample that is kept, None for a sample without a reward; nothing where nothing is kept,
        or not as it was."""

    async def keep(self, prompt: Prompt, sampling: Sampling, reward: str, rewards: Sequence[float | None]) -> None:
        """Put `rewards`, finite or None, in the place of what is kept, if they are more."""


@dataclass(frozen=True, slots=True)
class Models:
    """What is loaded: one policy and named rewards."""

    policy: Policy
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    calibration: Calibration | None = None

    def resolve_rewards(self, spec: RewardSpec, field: str = "strategy.reward") -> dict[str, float]:
        """The rewards a request means by `field`, with their weights. No name means `default`, or else the only one."""
        if spec is None:
            if "default" in self.rewards:
                return {"default": 1.0}
            if len(self.rewards) == 1:
                return dict.fromkeys(self.rewards, 1.0)
            loaded = ", ".join(sorted(self.rewards)) or "none"
            raise InvalidRequest(f"Name a reward: none is called 'default'. Loaded: {loaded}.", field)
        weights = {spec: 1.0} if isinstance(spec, str) else dict(spec)
        for name in weights:
            if name not in self.rewards:
                raise UnknownReward(name, self.rewards, field)
        return weights

    def resolve_guides(self, spec: Mapping[str, float], field: str = "strategy.guides") -> dict[str, float]:
        """The guides a request means by `field`, those of weight zero left out. Raises `InvalidRequest`."""
        loaded = ", ".join(sorted(self.policy.guides)) or "none"
        for name, weight in spec.items():
            if name not in self.policy.guides:
                raise UnknownGuide(name, self.policy.guides, field)
            if not abs(weight) <= GUIDE_WEIGHT:
                raise InvalidRequest(
                    f"The weight of guide '{name}' must be between -{GUIDE_WEIGHT:g} and {GUIDE_WEIGHT:g}. "
                    f"Loaded guides: {loaded}.",
                    f"{field}.{name}",
                )
        return {name: weight for name, weight in spec.items() if weight}
