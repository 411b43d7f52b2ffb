"""The guided law as arithmetic on logits, and the tags that say which row a hidden state belongs to. Pure torch.

    log p(v) = w_0 log pi(v) + sum_j w_j log pi_j(v) + const

What is constant over a row cancels in the softmax, so raw logits are added instead of their log-softmaxes: the same law
at a lower cost. A Q head's scores are added in the same way, which multiplies the law by exp(w_j Q_j).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BASE = 256  # integers up to this are exact in every float type that hidden states come in
DIGITS = 2


def mix(policy: Tensor, others: Sequence[Tensor | None], weights: Tensor, *, some_plain: bool) -> Tensor:
    """Return the mixed logits in float32, of the shape of `policy` [rows, vocabulary].

    A guide's vocabulary that is longer than the policy's is cut; if it is shorter, the tokens that it lacks (padding)
    have probability 0 in the rows that use the guide.

    Args:
        policy: Its logits [rows, vocabulary], which may be overwritten.
        others: Logits [rows, any vocabulary] of column j, or None if no row uses them.
        weights: [rows, 1 + columns], the policy's first.
        some_plain: Mask a guide's logits in rows without a weight for it: its KV cache was never filled there, so that
            0 * inf could give NaN.
    """
    mixed = policy.float().mul_(weights[:, :1])
    for j, other in enumerate(others, 1):
        if other is None:
            continue
        weight = weights[:, j : j + 1]
        known = min(mixed.shape[1], other.shape[1])
        logits = other[:, :known].float()
        if some_plain:
            logits = logits.where(weight != 0, 0.0)
        mixed[:, :known].addcmul_(logits, weight)
        if known < mixed.shape[1]:
            mixed[:, known:].masked_fill_(weight != 0, -torch.inf)
    return mixed


def tags(starts: Tensor, count: int, like: Tensor) -> Tensor:
    """Return for each of `count` tokens the row of the batch it belongs to, as digits [count, DIGITS] in `like`'s type.

    `starts` [rows + 1] says where each row's tokens begin. Tokens past the last row (padding) get the next index.
    """
    positions = torch.arange(count, device=like.device, dtype=starts.dtype)
    rows = torch.searchsorted(starts[1:].contiguous(), positions, right=True)
    return torch.stack((rows // BASE, rows % BASE), dim=1).to(like.dtype)


def rows_of(tags: Tensor) -> Tensor:
    """Return the row indices [count] that `tags` stand for."""
    high, low = tags.float().round().long().unbind(1)
    return high * BASE + low
