"""Guided decoding with Transformers, in float32: the reference for guides in training, evaluation and tests.

The law of a token, with pi the policy, pi_i the guides and w_i their weights [Xu et al. 2024, "GenARM"]:

    p(y_t | x, y_<t)  ∝  pi(y_t | x, y_<t)^{w_0} prod_i pi_i(y_t | x, y_<t)^{w_i}

w_0 is 1, 1/T for a policy at temperature T, or 1 - sum_i w_i for guides in ratio form, prod_i (pi_i / pi)^{w_i}.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Guides = Sequence[tuple[Any, float]]
"""Causal models and their weights w_i."""

NextLaws = Callable[[Tensor | None], tuple[Tensor, Tensor]]
"""Takes the last token of each row, [rows, 1], or None before the first; gives log pi and log p, [rows, vocabulary]."""


def guided_law(pi: Tensor, guides: Sequence[tuple[Tensor, float]], *, policy: float = 1.0) -> Tensor:
    """Return log p, normalised over the last axis.

    Args:
        pi: the policy's logits or log-probabilities, [..., vocabulary].
        guides: those of each guide, of the same shape, and its weight. An unnormalised score, such as a Q value, is
            taken as it is: a constant added to all tokens cancels.
        policy: w_0.
    """
    scores = pi if policy == 1 else policy * pi
    for other, weight in guides:
        scores = scores + weight * other
    return scores.log_softmax(-1)


def pad_left(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids, with 0 for padding, and attention mask: int64, [len(sequences), longest]."""
    longest = max(map(len, sequences))
    ids = [[0] * (longest - len(tokens)) + list(tokens) for tokens in sequences]
    mask = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in sequences]
    return torch.tensor(ids), torch.tensor(mask)


class CachedModel:
    """A causal model that reads a batch token by token: float32 logits [rows, vocabulary] after what it has read."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Start a new batch, of prompts' token ids of any lengths."""
        from transformers import DynamicCache

        ids, mask = pad_left(prompts)
        self._mask = mask.to(self._model.device)
        self._positions = (self._mask.cumsum(1) - 1).clamp_(0)
        self._cache = DynamicCache()
        return self._read(ids.to(self._model.device))

    def step(self, ids: Tensor) -> Tensor:
        """Read one more token of each row, [rows, 1]."""
        self._mask = torch.cat((self._mask, self._mask.new_ones(len(ids), 1)), dim=1)
        self._positions = self._positions[:, -1:] + 1
        return self._read(ids)

    def next(self, prompts: Sequence[Sequence[int]], last: Tensor | None) -> Tensor:
        """Start with `prompts` if `last` is None, else read `last`."""
        return self.begin(prompts) if last is None else self.step(last)

    def _read(self, ids: Tensor) -> Tensor:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits.float()


@dataclass(frozen=True)
class GuidedDraw:
    """A completion drawn from the guided law."""

    tokens: list[int]
    """Token ids; the last is the end token if the completion ended by itself."""
    log_prob: float
    """log pi of the completion, in nats."""
    kl: float
    """sum_t KL(p(. | y_<t) || pi(. | y_<t)), in nats.

    Its mean is the KL of whole completions, by the chain rule, and its variance is smaller than the log-ratio's.
    """


@torch.inference_mode()
def draw_completions(
    next_laws: NextLaws, *, rows: int, tokens: int, end: int, generator: torch.Generator
) -> list[GuidedDraw]:
    """Draw `rows` completions together, each of at most `tokens` tokens, until the token `end`."""
    live = torch.ones(rows, dtype=torch.bool)
    log_prob, kl = torch.zeros(rows), torch.zeros(rows)
    drawn: list[Tensor] = []
    while len(drawn) < tokens and live.any():
        pi, p = next_laws(drawn[-1] if drawn else None)
        probabilities = p.exp()
        if p is not pi:
            kl += live * (probabilities * (p - pi)).sum(-1)
        token = torch.multinomial(probabilities, 1, generator=generator)
        log_prob += live * pi.gather(1, token)[:, 0]
        drawn.append(torch.where(live[:, None], token, end))
        live = live & (token[:, 0] != end)
    ids = torch.cat(drawn, 1).tolist()
    return [
        GuidedDraw(row[: row.index(end) + 1] if end in row else row, *figures)
        for row, *figures in zip(ids, log_prob.tolist(), kl.tolist(), strict=True)
    ]


def sample_guided(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int,
    end: int,
    generator: torch.Generator,
    guides: Guides = (),
) -> list[GuidedDraw]:
    """Draw one completion of each prompt from the guided law; without guides, from the policy.

    Args:
        policy: a causal model in float32, as the guides.
        prompts: token ids.
        tokens: of a completion, at most.
        end: the token that ends a completion.
        generator: the randomness; the draws also depend on the whole batch of prompts.
        guides: models with the policy's vocabulary, and their weights.
    """
    own, others = CachedModel(policy), [CachedModel(guide) for guide, _ in guides]

    def next_laws(last: Tensor | None) -> tuple[Tensor, Tensor]:
        pi = own.next(prompts, last).log_softmax(-1)
        if not guides:
            return pi, pi
        weighted = [
            (other.next(prompts, last).log_softmax(-1), weight)
            for other, (_, weight) in zip(others, guides, strict=True)
        ]
        return pi, guided_law(pi, weighted)

    return draw_completions(next_laws, rows=len(prompts), tokens=tokens, end=end, generator=generator)
