"""How unsure the policy is of a token, as far as an engine says."""

import math
from collections.abc import Sequence
from dataclasses import replace

from decoders.core import TokenLogprob

LIKELIEST = 20  # tokens an engine reports of each law; more than vLLM's default bound it would refuse


def entropy(token: TokenLogprob) -> float:
    """Of the law that `token` was drawn from, in nats: of its likeliest tokens, and all the others as one more.

    Never more than the entropy itself.
    """
    laws = {a.token: a.logprob for a in (*token.top, token)}
    rest = -math.expm1(min(0.0, math.log(math.fsum(map(math.exp, laws.values())))))
    known = -math.fsum(math.exp(v) * v for v in laws.values() if v > -math.inf)
    return known - (rest * math.log(rest) if rest > 0 else 0.0)


def trimmed(logprobs: Sequence[TokenLogprob], asked: int | None) -> tuple[TokenLogprob, ...] | None:
    """What a request asked to hear of what was drawn with more."""
    return None if asked is None else tuple(replace(token, top=token.top[:asked]) for token in logprobs)
