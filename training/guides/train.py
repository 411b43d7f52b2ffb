"""Low-rank adapters for the policy's top layers, from pairs of completions.

    loss = -log sigmoid(beta_r (d_r - m d)),   d_r = log pi_r(y_w | x) - log pi_r(y_l | x),   d the policy's own

Log-probabilities are summed over a completion's tokens, in nats. m = 0 is GenARM's loss [Xu et al. 2024]. m = 1 takes
the margin over the frozen policy, as DPO does [Rafailov et al. 2023]; the reward learnt is then log pi_r - log pi.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from training.guides.halves import TOP, top
from training.guides.pairs import DrawPair
from training.guides.sampling import DrawnCompletion


@dataclass(frozen=True)
class GuideRecipe:
    """The training of a shipped guide. Steps are fixed, so that a rebuild does not depend on the machine's speed."""

    gap: float
    """The smallest difference between the two labels of a pair, in the labels' units."""
    ends: int = 3
    per: int = 1
    """Each of a prompt's `ends` best completions is paired with `per` of its `ends` worst."""
    layers: int = TOP
    rank: int = 8
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    beta_r: float = 0.1
    margin: float = 1.0
    """m of the loss."""
    steps: int = 60
    batch: int = 8
    """Pairs per step."""
    learning_rate: float = 1e-3
    warmup: float = 0.1
    seed: int = 0


RECIPES = {"positive": GuideRecipe(gap=1.0), "brief": GuideRecipe(gap=2.0)}


def train_guide(policy: Any, pairs: list[DrawPair], recipe: GuideRecipe, *, name: str, progress: bool = True) -> Any:
    """Train a PEFT model on the policy's top by `recipe`, on as many pairs as its steps take; return it."""
    from peft import LoraConfig, get_peft_model
    from tqdm import tqdm

    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=list(recipe.modules),
        layers_to_transform=list(range(recipe.layers)),
    )
    guide = get_peft_model(top(policy, recipe.layers), config)
    guide.train()
    weights = [weight for weight in guide.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step / recipe.steps, recipe))
    average, right = math.log(2), 0.5
    bar = tqdm(_batches(pairs, recipe), total=recipe.steps, desc=f"training {name}", unit="step", disable=not progress)
    for batch in bar:
        learnt, own = margins(guide, batch)
        loss = loss_of(learnt, own, recipe.beta_r, recipe.margin)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        average += 0.1 * (loss.item() - average)
        right += 0.1 * ((learnt > recipe.margin * own).float().mean().item() - right)
        bar.set_postfix(loss=f"{average:.3f}", right=f"{right:.2f}")
    return guide.eval()


def loss_of(learnt: Tensor, own: Tensor, beta_r: float, margin: float) -> Tensor:
    """Return the loss above, averaged over pairs; `learnt` is d_r and `own` is d, in nats."""
    return -logsigmoid(beta_r * (learnt - margin * own)).mean()


def margins(guide: Any, pairs: list[DrawPair]) -> tuple[Tensor, Tensor]:
    """Return d_r and d of each pair."""
    draws = [(pair.start, draw) for pair in pairs for draw in (pair.chosen, pair.rejected)]
    sums = log_probs(guide, draws).view(-1, 2)
    own = torch.tensor([[pair.chosen.log_prob, pair.rejected.log_prob] for pair in pairs])
    return sums[:, 0] - sums[:, 1], own[:, 0] - own[:, 1]


def log_probs(guide: Any, draws: list[tuple[int, DrawnCompletion]]) -> Tensor:
    """Return log pi_r(y | x) of each completion, summed over its tokens: [completions].

    Args:
        guide: a top, with or without an adapter.
        draws: prompts' lengths in tokens, and completions with hidden states.
    """
    states = [draw.hidden for _, draw in draws]
    padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(s), dtype=torch.long) for s in states], batch_first=True)
    base = guide.get_base_model() if hasattr(guide, "get_base_model") else guide
    out = base.model(inputs_embeds=padded, attention_mask=mask, use_cache=False).last_hidden_state
    # The head is a fifth of the work: apply it only at positions that predict a token of the completion.
    row = torch.tensor([i for i, (_, draw) in enumerate(draws) for _ in draw.ids])
    column = torch.tensor([start - 1 + t for start, draw in draws for t in range(len(draw.ids))])
    token = torch.tensor([token for _, draw in draws for token in draw.ids])
    losses = cross_entropy(base.lm_head(out[row, column]), token, reduction="none")
    return torch.zeros(len(draws)).index_add(0, row, -losses)


def _batches(pairs: list[DrawPair], recipe: GuideRecipe) -> Iterator[list[DrawPair]]:
    """Yield batches of pairs of similar length, for little padding; the order of the batches is random."""
    rng = random.Random(recipe.seed)
    done = 0
    while done < recipe.steps:
        order = rng.sample(pairs, len(pairs))
        pool = 8 * recipe.batch
        for start in range(0, len(order), pool):
            near = sorted(order[start : start + pool], key=lambda pair: pair.start)
            batches = [near[i : i + recipe.batch] for i in range(0, len(near), recipe.batch)]
            rng.shuffle(batches)
            for batch in batches[: recipe.steps - done]:
                yield batch
                done += 1


def _warm_cosine(progress: float, recipe: GuideRecipe) -> float:
    """Return the learning rate as a share of its peak: a linear rise, then half a cosine down to 3%."""
    rise = min(1.0, (progress + 1e-3) / recipe.warmup)
    return rise * max(0.03, 0.5 * (1 + math.cos(math.pi * progress)))
