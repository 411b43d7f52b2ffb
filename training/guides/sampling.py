"""Sampling from the policy, alone or guided, with the divergence of what was sampled.

The law of a token, with pi the policy and pi_i guides of weight w_i [Xu et al. 2024, "GenARM"]:

    plain  p ∝ pi^{1/T} prod_i pi_i^{w_i}             ratio  p ∝ pi^{1/T} prod_i (pi_i / pi)^{w_i}

KL(p || pi) of a completion, in nats, is estimated by the sum over its tokens of the exact KL of the next-token laws:
unbiased by the chain rule, and steadier than the log-ratio of the tokens drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROWS = 160
"""Completions drawn at once."""

Guides = Sequence[tuple[Any, float]]
"""Tops of guides, as `halves.top` makes them, and their weights."""


@dataclass(frozen=True)
class Draw:
    """One completion: `prompt` is its prompt's index, `ids` end with the end-of-turn token where it ended itself."""

    prompt: int
    ids: list[int]
    log_prob: float
    """Of the completion under the policy, in nats."""
    kl: float
    hidden: Tensor
    """The policy's hidden states below a guide's top, at each token of prompt and completion but the last; float32
    (tokens, width). Empty unless asked for."""


@torch.inference_mode()
def sample(
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
) -> Iterator[list[Draw]]:
    """`n` completions of at most `tokens` tokens for each prompt, in chunks: shortest prompts first.

    `keep_hidden` is the depth of a top below which hidden states are kept.
    """
    generator = torch.Generator().manual_seed(seed)
    for chunk in chunks(prompts, max(1, ROWS // n)):
        batch = torch.tensor([prompts[index] for index in chunk])
        yield _sample(policy, chunk, batch, n, tokens, generator, guides, ratio, temperature, keep_hidden)


def chunks(prompts: list[list[int]], size: int) -> Iterator[list[int]]:
    """Indices of at most `size` prompts of one length: nothing is padded, so no row depends on its neighbours."""
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    for _, indices in sorted(by_length.items()):
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def guided(pi: Tensor, others: list[tuple[Tensor, float]], ratio: bool, temperature: float = 1.0) -> Tensor:
    """The next token's log-probabilities under the law above, from those of the policy and of the guides."""
    scores = pi / temperature
    for other, weight in others:
        scores = scores + weight * (other - pi if ratio else other)
    return scores.log_softmax(-1)


def _sample(
    policy: Any,
    chunk: list[int],
    batch: Tensor,
    n: int,
    tokens: int,
    generator: torch.Generator,
    guides: Guides,
    ratio: bool,
    temperature: float,
    keep_hidden: int | None,
) -> list[Draw]:
    from transformers import DynamicCache

    end = policy.config.eos_token_id
    top = guides[0][0].config.num_hidden_layers if guides else keep_hidden
    caches = [DynamicCache(config=model.config) for model in (policy, *(guide for guide, _ in guides))]
    rows = len(chunk) * n
    live = torch.ones(rows, dtype=torch.bool)
    log_prob, kl = torch.zeros(rows), torch.zeros(rows)
    drawn: list[Tensor] = []
    hidden: list[Tensor] = []
    fed = batch
    for step in range(tokens):
        out = policy(
            fed, past_key_values=caches[0], use_cache=True, logits_to_keep=1, output_hidden_states=top is not None
        )
        below = out.hidden_states[policy.config.num_hidden_layers - top] if top is not None else None
        logits = [out.logits]
        for (guide, _), cache in zip(guides, caches[1:], strict=True):
            logits.append(guide(inputs_embeds=below, past_key_values=cache, use_cache=True, logits_to_keep=1).logits)
        laws = [each[:, -1].log_softmax(-1) for each in logits]
        if step == 0:
            # A prompt is read once; its n completions part here.
            laws = [law.repeat_interleave(n, 0) for law in laws]
            below = below.repeat_interleave(n, 0) if below is not None else None
            for cache in caches:
                cache.batch_repeat_interleave(n)
        pi, *others = laws
        if others or temperature != 1:
            weighted = [(law, weight) for law, (_, weight) in zip(others, guides, strict=True)]
            p = guided(pi, weighted, ratio, temperature)
            probabilities = p.exp()
            kl += live * (probabilities * (p - pi)).sum(-1)
        else:
            probabilities = pi.exp()
        token = torch.multinomial(probabilities, 1, generator=generator)
        log_prob += live * pi.gather(1, token)[:, 0]
        drawn.append(torch.where(live[:, None], token, end))
        if keep_hidden is not None:
            assert below is not None
            hidden.append(below)
        live &= token[:, 0] != end
        fed = drawn[-1]
        if not live.any():
            break
    every = torch.cat(drawn, 1).tolist()
    states = torch.cat(hidden, 1) if hidden else torch.empty(rows, 0, 0)
    draws = []
    for row, ids in enumerate(every):
        kept = ids[: ids.index(end) + 1] if end in ids else ids
        length = batch.shape[1] + len(kept) - 1 if hidden else 0
        state = states[row, :length].clone()
        draws.append(Draw(chunk[row // n], kept, log_prob[row].item(), kl[row].item(), state))
    return draws
