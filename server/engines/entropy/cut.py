"""Stopping rows at an entropy, as arithmetic on logits. Pure torch; nothing here waits for the device.

    H = -sum_v p(v) log p(v),  p = softmax(logits),  in nats

A row at its threshold may draw the signal `entropy` and nothing else. Below it, the signals must not be drawn as
themselves, since nobody could tell: where their probability is more than float32 can tell from 0, whatever truncation
the request asks for, the row may draw the signal `collision` and nothing else. Anywhere else they are masked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from server.engines.entropy.asked import Asked

NEGLIGIBLE = -24 * math.log(2)  # log p / p_max below which float32 adds p to p_max without effect
_NOTHING = -200.0  # a logit so far below the greatest has probability 0 in float32


@dataclass
class Row:
    """A row of the batch, and what its request asks.

    Args:
        asked: Its threshold and its signals.
        temperature: At which the next token will be drawn.
        bias: What the request has added to the logits, by token; the entropy is of the law without it.
        ends: Tokens that are banned before `asked.min_tokens`.
    """

    asked: Asked
    temperature: float = 1.0
    bias: dict[int, float] = field(default_factory=dict)
    ends: Sequence[int] = ()


def entropy(logits: Tensor) -> Tensor:
    """The entropy in nats [rows] of softmax(logits) [rows, vocabulary], in float32; `logits` is overwritten."""
    shifted = logits.sub_(logits.amax(-1, keepdim=True)).clamp_(min=_NOTHING)
    weights = shifted.exp()
    total = weights.sum(-1)
    mean: Tensor = torch.linalg.vecdot(weights, shifted) / total
    return total.log() - mean


def cut(logits: Tensor, places: Sequence[int], rows: Sequence[Row], counts: Sequence[int]) -> None:
    """Let rows draw a signal only, where they must stop; change `logits` [batch, vocabulary] in place.

    Args:
        places: Each row's index in the batch.
        rows: What each asks.
        counts: The tokens that each has drawn.
    """
    device = logits.device
    index = torch.tensor(places, device=device)
    own = logits[index]
    at_threshold = _at_threshold(own, rows, counts)
    banned = [(i, t) for i, row in enumerate(rows) if counts[i] < row.asked.min_tokens for t in row.ends]
    if banned:
        own[_pairs(banned, device)] = -torch.inf
    signals = torch.tensor([[r.asked.signals.entropy, r.asked.signals.collision] for r in rows], device=device)
    temperatures = torch.tensor([row.temperature for row in rows], device=device)
    gap = own.gather(1, signals).amax(-1) - own.amax(-1)
    collides = gap >= NEGLIGIBLE * temperatures
    stops = at_threshold | collides
    own.masked_fill_(stops[:, None], -torch.inf).scatter_(1, signals, -torch.inf)
    signal = torch.where(at_threshold, signals[:, 0], signals[:, 1])[:, None]
    own.scatter_(1, signal, torch.where(stops, 0.0, -torch.inf).to(own.dtype)[:, None])
    logits[index] = own


def _at_threshold(own: Tensor, rows: Sequence[Row], counts: Sequence[int]) -> Tensor:
    """Whether each row must end before its next token [rows]."""
    if all(count < row.asked.least for row, count in zip(rows, counts, strict=True)):
        return torch.zeros(len(rows), dtype=torch.bool, device=own.device)
    law = own.clone()
    bias = [(i, token, value) for i, row in enumerate(rows) for token, value in row.bias.items()]
    if bias:
        where = _pairs([(i, token) for i, token, _ in bias], own.device)
        law[where] -= torch.tensor([value for *_, value in bias], device=own.device)
    limits = [
        row.asked.entropy if count >= row.asked.least else torch.inf for row, count in zip(rows, counts, strict=True)
    ]
    return entropy(law) >= torch.tensor(limits, device=own.device)


def _pairs(pairs: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of single logits, by row and token."""
    row, token = torch.tensor(pairs, device=device).unbind(1)
    return row, token
