"""Request-time decoding strategies over a frozen policy and frozen rewards.

Pure algorithms: nothing here imports the server, an engine or a tensor library. To add a strategy, write its file and
add it to the union below.
"""

from typing import Annotated, get_args

from pydantic import Field

from decoders.base import Decoder
from decoders.best_of_n import BestOfN
from decoders.cascade import Cascade
from decoders.controlled import Controlled
from decoders.particles import Particles
from decoders.rejection import Rejection
from decoders.reward_guided import RewardGuided
from decoders.sample import Sample
from decoders.speculative_rejection import SpeculativeRejection

AnyStrategy = Sample | RewardGuided | BestOfN | Controlled | Rejection | Particles | SpeculativeRejection | Cascade
Strategy = Annotated[AnyStrategy, Field(discriminator="strategy")]
STRATEGIES: tuple[type[Decoder], ...] = get_args(AnyStrategy)

BestOfN.model_rebuild(_types_namespace={"Strategy": Strategy})  # its proposal is any of them

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
