"""The toy with three guides, and the guided law written from its definition."""

import math
from collections.abc import Mapping

from decoders.core import Tokens
from decoders.models import Models
from decoders.testing import EOS, ToyBrevity, ToyGuide, ToyPolicy, ToyReward

EXACT = 1e-9
KIND, ODD, Q = ToyGuide((0.0, 1.0, -1.0)), ToyGuide((0.5, -1.0, 2.0)), ToyGuide((0.3, 0.7, -2.0), "q_head")
POLICY = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": KIND, "odd": ODD, "q": Q})
MODELS = Models(POLICY, {"default": ToyReward(), "brevity": ToyBrevity()})


def probabilities(logits: list[float]) -> list[float]:
    """Return the softmax of logits."""
    weights = [math.exp(v) for v in logits]
    return [w / math.fsum(weights) for w in weights]


def by_definition(guides: Mapping[str, float], temperature: float = 1.0) -> dict[Tokens, float]:
    """Return p(y) = prod_t pi(y_t)^(1/T) prod_i pi_i(y_t)^(w_i/T) exp(lambda Q(y_t)/T) / z_t, grown token by token."""
    law: dict[Tokens, float] = {}

    def grow(prefix: Tokens, p: float) -> None:
        if prefix and prefix[-1] == EOS:
            law[prefix] = p
            return
        factors = [math.exp(v) for v in POLICY.logprobs((), prefix)]
        for name, weight in guides.items():
            scores = POLICY.loaded[name].logits(prefix, 3)
            own = [math.exp(s) for s in scores] if name == "q" else probabilities(scores)
            factors = [f * o**weight for f, o in zip(factors, own, strict=True)]
        factors = [f ** (1 / temperature) for f in factors]
        for token, factor in enumerate(factors):
            if factor > 0:
                grow((*prefix, token), p * factor / math.fsum(factors))

    grow((), 1.0)
    return law
