"""What is loaded for a strategy: the policy, named rewards, and a store of what calibrates them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from decoders.core import Candidate, Prompt, Sampling
from decoders.errors import InvalidRequest, UnknownGuide, UnknownReward
from decoders.policy import Policy

RewardSpec = str | Mapping[str, float] | None
MAX_GUIDE_WEIGHT = 100.0  # either way


class Reward(Protocol):
    """A frozen reward model: greater is better, in its own units."""

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        """Return one reward for each completion. Raise `RewardFailed`.

        None says that the reward does not apply to a completion, whose other rewards then decide. A number that is not
        finite says that there should be a reward and is none: then the completion cannot be chosen.
        """


def scores_all(reward: Reward) -> bool:
    """Return whether the reward declares, by an attribute `scores_all`, a finite number for every completion."""
    return bool(getattr(reward, "scores_all", False))


class Calibration(Protocol):
    """A store of rewards of policy samples, by prompt, way of sampling and reward."""

    @property
    def rollouts(self) -> int:
        """How many samples to keep for each prompt, where a request does not say."""

    async def stored(self, prompt: Prompt, sampling: Sampling, reward: str) -> Sequence[float | None]:
        """Return the stored rewards, or an empty sequence on a miss.

        There is one for each stored sample, None for a sample that the reward does not apply to.
        """

    async def keep(self, prompt: Prompt, sampling: Sampling, reward: str, rewards: Sequence[float | None]) -> None:
        """Store `rewards`, each finite or None, unless as many are stored already."""


@dataclass(frozen=True, slots=True)
class Models:
    """What is loaded: one policy, named rewards, and perhaps a calibration store."""

    policy: Policy
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    calibration: Calibration | None = None

    def resolve_rewards(self, spec: RewardSpec) -> dict[str, float]:
        """Return the rewards that a request means, with their weights.

        No name means the reward called `default`, or else the only one. Raise `InvalidRequest` where none is meant, and
        `UnknownReward` for one that is not loaded.
        """
        if spec is None:
            if "default" in self.rewards:
                return {"default": 1.0}
            if len(self.rewards) == 1:
                return dict.fromkeys(self.rewards, 1.0)
            loaded = ", ".join(sorted(self.rewards)) or "none"
            message = f"Name a reward: none is called 'default'. Loaded: {loaded}."
            raise InvalidRequest(message, "strategy.reward")
        weights = {spec: 1.0} if isinstance(spec, str) else dict(spec)
        for name in weights:
            if name not in self.rewards:
                raise UnknownReward(name, self.rewards, "strategy.reward")
        return weights

    def resolve_guides(self, spec: Mapping[str, float]) -> dict[str, float]:
        """Return the guides that a request means, with their weights, without those of weight zero.

        Raise `UnknownGuide` for one that is not loaded, and `InvalidRequest` for a weight out of range.
        """
        for name, weight in spec.items():
            if name not in self.policy.guides:
                raise UnknownGuide(name, self.policy.guides, "strategy.guides")
            if not abs(weight) <= MAX_GUIDE_WEIGHT:
                loaded = ", ".join(sorted(self.policy.guides))
                message = (
                    f"The weight of guide '{name}' must be between -{MAX_GUIDE_WEIGHT:g} and {MAX_GUIDE_WEIGHT:g}. "
                    f"Loaded guides: {loaded}."
                )
                raise InvalidRequest(message, f"strategy.guides.{name}")
        return {name: weight for name, weight in spec.items() if weight}
