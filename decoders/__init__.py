"""Request-time decoding strategies over a frozen policy and frozen rewards.

Pure algorithms: nothing here imports the server, an engine or a tensor library. To add a strategy, write its file
and add it to the union below, and to that of `decoders.proposal` if best-of-N may choose among its answers.
"""

from typing import Annotated

from pydantic import Field

from decoders.cascade import Cascade
from decoders.controlled import Controlled
from decoders.particles import Particles
from decoders.proposal import BestOfN
from decoders.rejection import Rejection
from decoders.reward_guided import RewardGuided
from decoders.sample import Sample
from decoders.speculative_rejection import SpeculativeRejection

Strategy = Annotated[
    Sample | RewardGuided | BestOfN | Controlled | Rejection | Particles | SpeculativeRejection | Cascade,
    Field(discriminator="strategy"),
]
STRATEGIES = (Sample, RewardGuided, BestOfN, Controlled, Rejection, Particles, SpeculativeRejection, Cascade)

__all__ = [
    "STRATEGIES",
    "BestOfN",
    "Cascade",
    "Controlled",
    "Particles",
    "Rejection",
    "RewardGuided",
    "Sample",
    "SpeculativeRejection",
    "Strategy",
]
