"""The public surface of `decoders` and `decoders.testing`: a name that comes or goes is a change to announce."""

from types import ModuleType

import pytest

import decoders
import decoders.testing

STRATEGIES = """
    STRATEGIES BestOfN Cascade Controlled Particles Rejection RewardGuided Sample SpeculativeRejection Strategy
"""
KIT = """
    CONTRACT EOS GUIDES MAX_TOKENS ONE PROMPT REWARDS WORDS
    BackwardsPolicy BoundRun BrokenReward Check CountedReward DelegatingPolicy EnumeratingRng HookedReward Outcome
    ToyBrevity ToyGuide ToyPolicy ToyReward ToyTable WatchedPolicy
    answer answers bind collect done every_path fail forever joint_law law let_others_run mean nothing toy_models
"""


@pytest.mark.parametrize(("package", "names"), [(decoders, STRATEGIES), (decoders.testing, KIT)], ids=["all", "kit"])
def test_exported_members(package: ModuleType, names: str) -> None:
    assert package.__all__ == names.split()
    assert all(hasattr(package, name) for name in package.__all__)
