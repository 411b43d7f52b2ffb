"""Sampling from the policy, alone or with guides that share its lower layers, with the KL of what was sampled.

The law is `training.guided_reference`'s. In plain form the guides' laws multiply the policy's; in ratio form their
ratios to the policy's do:

    plain  p ∝ pi^{1/T} prod_i pi_i^{w_i}             ratio  p ∝ pi^{1/T} prod_i (pi_i / pi)^{w_i}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from training.guided_reference import Guides, draw_completions, guided_law

ROWS = 160
"""Completions drawn at the same time."""


@dataclass(frozen=True)
class DrawnCompletion:
    """One completion of the prompt with index `prompt`; `ids` end with the end-of-turn token if it ended by itself."""

    prompt: int
    ids: list[int]
    log_prob: float
    """log pi of the completion, in nats."""
    kl: float
    """The KL to the policy along the completion, in nats, as `GuidedDraw` has it."""
    hidden: Tensor
    """The policy's hidden states below a guide's top, at each token of prompt and completion but the last: float32,
    [tokens, width]. Empty unless `sample` was called with `keep_hidden`."""


def sample_chunks(
    policy: Any,
    prompts: list[list[int]],
    n: int,
    *,
    tokens: int,
    seed: int,
    guides: Guides = (),
    ratio: bool = True,
    temperature: float = 1.0,
    keep_hidden: int | None = None,
) -> Iterator[list[DrawnCompletion]]:
    """DrawnCompletion completions of all prompts; yield them in chunks, shortest prompts first.

    Args:
        policy: a Llama in float32.
        prompts: token ids.
        n: completions of each prompt.
        tokens: of a completion, at most.
        seed: of all draws.
        guides: the guides' tops, as `halves.top` makes them, and their weights.
        ratio: whether the guides are in ratio form.
        temperature: T of the law above.
        keep_hidden: the number of layers of a top below which hidden states are kept; None keeps none.
    """
    generator = torch.Generator().manual_seed(seed)
    exponent = policy_exponent([weight for _, weight in guides], ratio=ratio, temperature=temperature)
    for chunk in chunks(prompts, max(1, ROWS // n)):
        batch = torch.tensor([prompts[index] for index in chunk])
        laws = _SharedLaws(policy, guides, exponent, batch, n, keep_hidden)
        drawn = draw_completions(
            laws.next, rows=len(chunk) * n, tokens=tokens, end=policy.config.eos_token_id, generator=generator
        )
        yield [
            DrawnCompletion(chunk[row // n], one.tokens, one.log_prob, one.kl, laws.hidden_of(row, len(one.tokens)))
            for row, one in enumerate(drawn)
        ]


def policy_exponent(weights: Sequence[float], *, ratio: bool, temperature: float = 1.0) -> float:
    """Return w_0, the policy's exponent in the guided law, for guides of these weights."""
    return 1 / temperature - (sum(weights) if ratio else 0.0)


def chunks(prompts: list[list[int]], size: int) -> Iterator[list[int]]:
    """Yield indices of at most `size` prompts of one length: without padding, no row depends on another."""
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    for _, indices in sorted(by_length.items()):
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


@dataclass
class _SharedLaws:
    """The laws of the policy and of the mixture, step by step, for `n` completions of each prompt of a batch.

    The guides read the policy's hidden states below their tops, so their lower layers are computed once, by the policy.
    """

    policy: Any
    guides: Guides
    exponent: float
    batch: Tensor
    n: int
    keep_hidden: int | None
    _hidden: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        from transformers import DynamicCache

        self._top = self.guides[0][0].config.num_hidden_layers if self.guides else self.keep_hidden
        self._caches = [DynamicCache(config=model.config) for model in (self.policy, *(g for g, _ in self.guides))]

    def next(self, last: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return log pi and log p after the tokens `last`, [rows, 1]; None stands for the prompts."""
        below, logits = self._read(self.batch if last is None else last)
        laws = [each[:, -1].log_softmax(-1) for each in logits]
        if last is None:
            # A prompt is read once, and its state is copied for its n completions.
            laws = [law.repeat_interleave(self.n, 0) for law in laws]
            below = below.repeat_interleave(self.n, 0) if below is not None else None
            for cache in self._caches:
                cache.batch_repeat_interleave(self.n)
        if self.keep_hidden is not None:
            assert below is not None
            self._hidden.append(below)
        pi, *others = laws
        if not others and self.exponent == 1:
            return pi, pi
        weighted = [(law, weight) for law, (_, weight) in zip(others, self.guides, strict=True)]
        return pi, guided_law(pi, weighted, policy=self.exponent)

    def _read(self, ids: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """Return the policy's hidden states below the top, and the logits of policy and guides."""
        own, *others = self._caches
        top = self._top
        out = self.policy(
            ids, past_key_values=own, use_cache=True, logits_to_keep=1, output_hidden_states=top is not None
        )
        below = out.hidden_states[self.policy.config.num_hidden_layers - top] if top is not None else None
        logits = [out.logits]
        for (guide, _), cache in zip(self.guides, others, strict=True):
            logits.append(guide(inputs_embeds=below, past_key_values=cache, use_cache=True, logits_to_keep=1).logits)
        return below, logits

    def hidden_of(self, row: int, length: int) -> Tensor:
        """Return `DrawnCompletion.hidden` of a completion of `length` tokens."""
        if not self._hidden:
            return torch.empty(0, 0)
        if len(self._hidden) > 1:
            self._hidden = [torch.cat(self._hidden, 1)]
        return self._hidden[0][row, : self.batch.shape[1] + length - 1].clone()
