"""Stopping rows of a batch at an entropy, as arithmetic on logits. Pure torch; nothing here waits for the device.

    H = -sum_v p(v) log p(v),  p = softmax(logits),  in nats

A row at its threshold may draw the signal `entropy` and nothing else. Below the threshold, the policy must not draw a
signal as an ordinary token, since it would be taken for a signal: where the probability of one is more than float32 can
tell from 0, whatever the request's truncation, the row may draw the signal `collision` and nothing else. In other rows
the signals are masked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from server.engines.entropy.request_args import EntropyArgs

NEGLIGIBLE = -24 * math.log(2)  # log p / p_max below which float32 adds p to p_max without effect
_ZERO_BELOW = -200.0  # a logit so far below the greatest has probability 0 in float32


@dataclass
class EntropyRow:
    """A row of the batch, and its request's threshold.

    Args:
        args: The threshold and the signals.
        temperature: The one that the next token will be drawn at.
        bias: What the request adds to the logits, by token; the entropy is of the law without it.
        ends: Tokens that are banned before `args.min_tokens`.
    """

    args: EntropyArgs
    temperature: float = 1.0
    bias: dict[int, float] = field(default_factory=dict)
    ends: Sequence[int] = ()


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats [rows] of softmax(logits) [rows, vocabulary], in float32; `logits` is overwritten."""
    shifted = logits.sub_(logits.amax(-1, keepdim=True)).clamp_(min=_ZERO_BELOW)
    weights = shifted.exp()
    total = weights.sum(-1)
    mean: Tensor = torch.linalg.vecdot(weights, shifted) / total
    return total.log() - mean


def apply_entropy_stops(
    logits: Tensor, places: Sequence[int], rows: Sequence[EntropyRow], counts: Sequence[int]
) -> None:
    """Mask all but a signal in the rows that must stop; change `logits` [batch, vocabulary] in place.

    Args:
        places: Each row's index in the batch.
        rows: Each row's threshold.
        counts: The number of tokens that each has drawn.
    """
    device = logits.device
    index = torch.tensor(places, device=device)
    own = logits[index]
    at_threshold = _at_threshold(own, rows, counts)
    banned = [(i, t) for i, row in enumerate(rows) if counts[i] < row.args.min_tokens for t in row.ends]
    if banned:
        own[_pairs(banned, device)] = -torch.inf
    signals = torch.tensor([[r.args.signals.entropy, r.args.signals.collision] for r in rows], device=device)
    temperatures = torch.tensor([row.temperature for row in rows], device=device)
    gap = own.gather(1, signals).amax(-1) - own.amax(-1)
    collides = gap >= NEGLIGIBLE * temperatures
    stops = at_threshold | collides
    own.masked_fill_(stops[:, None], -torch.inf).scatter_(1, signals, -torch.inf)
    signal = torch.where(at_threshold, signals[:, 0], signals[:, 1])[:, None]
    own.scatter_(1, signal, torch.where(stops, 0.0, -torch.inf).to(own.dtype)[:, None])
    logits[index] = own


def _at_threshold(own: Tensor, rows: Sequence[EntropyRow], counts: Sequence[int]) -> Tensor:
    """Return whether each row must stop before its next token [rows]."""
    if all(count < row.args.least for row, count in zip(rows, counts, strict=True)):
        return torch.zeros(len(rows), dtype=torch.bool, device=own.device)
    law = own.clone()
    bias = [(i, token, value) for i, row in enumerate(rows) for token, value in row.bias.items()]
    if bias:
        where = _pairs([(i, token) for i, token, _ in bias], own.device)
        law[where] -= torch.tensor([value for *_, value in bias], device=own.device)
    limits = [
        row.args.entropy if count >= row.args.least else torch.inf for row, count in zip(rows, counts, strict=True)
    ]
    return entropy(law) >= torch.tensor(limits, device=own.device)


def _pairs(pairs: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return indices of single logits, by row and token."""
    row, token = torch.tensor(pairs, device=device).unbind(1)
    return row, token
