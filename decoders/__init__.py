"""Request-time decoding strategies over a frozen policy and frozen rewards.

Pure algorithms: nothing here imports the server, an engine or a tensor library. To add a strategy, write its file
and add it to the union below.
"""

from typing import Annotated

from pydantic import Field

from decoders.best_of_n import BestOfN
from decoders.controlled import Controlled
from decoders.particles import Particles
from decoders.rejection import Rejection
from decoders.reward_guided import RewardGuided
from decoders.sample import Sample

Strategy = Annotated[
    Sample | RewardGuided | BestOfN | Controlled | Rejection | Particles, Field(discriminator="strategy")
]
STRATEGIES = (Sample, RewardGuided, BestOfN, Controlled, Rejection, Particles)

__all__ = ["STRATEGIES", "BestOfN", "Controlled", "Particles", "Rejection", "RewardGuided", "Sample", "Strategy"]
