"""Autoregressive reward-guided sampling [Xu et al. 2024, GenARM].

1. for t = 1, 2, ..:   y_t ~ p(. | x, y_<t)  ~  pi(. | x, y_<t) prod_i pi_i(. | x, y_<t)^{w_i} exp(sum_j lambda_j Q_j)
"""

from typing import Literal

from decoders.core import Sampling
from decoders.errors import InvalidRequest
from decoders.models import Models
from decoders.sample import Draw


class RewardGuided(Draw, frozen=True, extra="forbid"):
    """One draw from the guided policy for each result; `guides` is required.

    Law: at each token, the guided law above after the request's own temperature, top-p and top-k. GenARM's KL weight
    beta is a guide of weight 1/beta. It is not pi exp(r/beta)/Z of the sequence reward r = sum_t log pi_i, since each
    step is normalised by itself; it is for a `q_head` that is the soft value beta log E_pi[exp(r/beta) | y_<=t], at a
    weight of 1/beta. Streams token by token.
    """

    strategy: Literal["reward_guided"] = "reward_guided"

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        if not models.resolve_guides(self.guides):
            loaded = ", ".join(sorted(models.policy.guides)) or "none"
            raise InvalidRequest(f"Name a guide and its weight. Loaded guides: {loaded}.", "strategy.guides")
