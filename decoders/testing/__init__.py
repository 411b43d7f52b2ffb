"""A kit for authors of strategies: an exact toy, the law of a strategy by enumeration, and the contract to keep.

It needs neither pytest nor a server nor an engine.

    await law(bind(Mine(), toy_models(ToyPolicy())))       # the exact law of Mine, to compare with its closed form
    for check in CONTRACT: check(Mine(reward=REWARDS))     # its events, its costs, cancellation, failures
"""

from decoders.testing.contract import CONTRACT, Check
from decoders.testing.contract.running import REWARDS
from decoders.testing.delegating import DelegatingPolicy
from decoders.testing.enumeration import (
    ONE,
    PROMPT,
    BoundRun,
    EnumeratingRng,
    Outcome,
    answer,
    answers,
    bind,
    collect,
    done,
    every_path,
    joint_law,
    law,
    mean,
)
from decoders.testing.toy import ToyPolicy
from decoders.testing.toy_rewards import ToyBrevity, ToyReward
from decoders.testing.toy_table import EOS, MAX_TOKENS, WORDS, ToyGuide, ToyTable
from decoders.testing.watched import (
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
    toy_models,
)

__all__ = [
    "CONTRACT",
    "EOS",
    "GUIDES",
    "MAX_TOKENS",
    "ONE",
    "PROMPT",
    "REWARDS",
    "WORDS",
    "BackwardsPolicy",
    "BoundRun",
    "BrokenReward",
    "Check",
    "CountedReward",
    "DelegatingPolicy",
    "EnumeratingRng",
    "HookedReward",
    "Outcome",
    "ToyBrevity",
    "ToyGuide",
    "ToyPolicy",
    "ToyReward",
    "ToyTable",
    "WatchedPolicy",
    "answer",
    "answers",
    "bind",
    "collect",
    "done",
    "every_path",
    "fail",
    "forever",
    "joint_law",
    "law",
    "let_others_run",
    "mean",
    "nothing",
    "toy_models",
]
