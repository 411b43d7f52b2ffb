"""Low-rank adapters for a truncated policy, from labelled reviews, at every position of a text.

The reward of a text of n tokens is z_n, the log-odds that it is a positive review; a causal model computes z_1 .. z_n
together. The loss of a text is the mean of two binary cross-entropies: of the whole text, with and without its
end-of-turn token, and of its prefixes of at least `MIN_PREFIX` tokens, on average. So prefixes are scored well too.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from server.demo.reward import truncated
from training.sentiment.data import MIN_PREFIX, Review, ReviewExample, ReviewKind, training_examples


@dataclass(frozen=True)
class SentimentRecipe:
    """The training of the shipped adapter; steps are fixed, so a rebuild does not depend on the machine's speed."""

    layers: int = 14
    frozen: int = 5
    """The number of first layers without an adapter, which need no gradient."""
    rank: int = 16
    modules: tuple[str, ...] = ("q_proj", "v_proj", "o_proj", "down_proj")
    short: int = 3_200
    long: int = 1_600
    chat_share: float = 0.12
    batch: int = 16
    learning_rate: float = 1e-3
    head_learning_rate: float = 2e-3
    warmup: float = 0.06
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Padded rows: `ids`, `mask` and loss `weights` [rows, tokens], `labels` (0 or 1) and `last` positions [rows]."""

    ids: Tensor
    mask: Tensor
    weights: Tensor
    labels: Tensor
    last: Tensor


def train_sentiment(
    policy: Path, reviews: list[Review], tokenizer: Any, recipe: SentimentRecipe, *, progress: bool = True
) -> Any:
    """Train a PEFT model on the truncated policy by `recipe`, on the first reviews of each kind; return it."""
    from peft import LoraConfig, get_peft_model
    from tqdm import tqdm

    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=list(recipe.modules),
        layers_to_transform=list(range(recipe.frozen, recipe.layers)),
        modules_to_save=["score"],
    )
    model = get_peft_model(truncated(policy, recipe.layers), config)
    model.train()
    trainable = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    weights = [weight for _, weight in trainable]
    optimiser = torch.optim.AdamW(
        [
            {"params": [w for name, w in trainable if "lora_" in name], "lr": recipe.learning_rate},
            {"params": [w for name, w in trainable if "lora_" not in name], "lr": recipe.head_learning_rate},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    batches = list(_batches(_chosen(reviews, tokenizer, recipe), recipe))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step / len(batches), recipe))
    average = math.log(2)
    bar = tqdm(batches, desc="training the sentiment reward", unit="step", disable=not progress)
    for examples in bar:
        batch = collate(examples)
        scores = every_score(model.get_base_model(), batch)
        labels = batch.labels[:, None].expand_as(scores)
        losses = binary_cross_entropy_with_logits(scores, labels, reduction="none")
        loss = (losses * batch.weights).sum() / len(examples)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        average += 0.05 * (loss.item() - average)
        bar.set_postfix(loss=f"{average:.3f}")
    return model.eval()


def save_adapter(model: Any, directory: Path) -> None:
    """Write adapter and head in PEFT's layout, in bf16 as the merged reward is stored, with PEFT's configuration."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in state.items()},
        directory / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    config.base_model_name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    config.inference_mode = True
    # It is a set, and its order differs from run to run.
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(directory)


def every_score(classifier: Any, batch: Batch) -> Tensor:
    """Return the log-odds at every position: [rows, tokens]."""
    hidden = classifier.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    scores: Tensor = classifier.score(hidden)[..., 0]
    return scores


def collate(examples: list[ReviewExample]) -> Batch:
    """Pad on the right, and weight a text's loss: 1/2 over its prefixes, 1/4 each with and without its last token."""
    rows, width = len(examples), max(len(example.ids) for example in examples)
    ids, mask = torch.zeros(rows, width, dtype=torch.long), torch.zeros(rows, width, dtype=torch.long)
    weights = torch.zeros(rows, width)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = torch.tensor(example.ids)
        mask[row, :length] = 1
        first = min(example.start + MIN_PREFIX - 1, length - 1)
        weights[row, first:length] = 0.5 / (length - first)
        weights[row, length - 1] += 0.25
        weights[row, max(length - 2, first)] += 0.25
    labels = torch.tensor([float(example.positive) for example in examples])
    return Batch(ids, mask, weights, labels, mask.sum(1) - 1)


def _chosen(reviews: list[Review], tokenizer: Any, recipe: SentimentRecipe) -> list[ReviewExample]:
    counts: dict[ReviewKind, int] = {"short": recipe.short, "long": recipe.long}
    chosen = [r for kind, n in counts.items() for r in [r for r in reviews if r.kind == kind][:n]]
    return training_examples(chosen, tokenizer, chat_share=recipe.chat_share, seed=recipe.seed)


def _batches(examples: list[ReviewExample], recipe: SentimentRecipe) -> Iterator[list[ReviewExample]]:
    """Yield batches of similar length, for little padding; the order of the batches is random."""
    rng = random.Random(recipe.seed)
    rng.shuffle(examples)
    pool = 16 * recipe.batch
    for start in range(0, len(examples), pool):
        near = sorted(examples[start : start + pool], key=lambda example: len(example.ids))
        batches = [near[i : i + recipe.batch] for i in range(0, len(near), recipe.batch)]
        rng.shuffle(batches)
        yield from batches


def _warm_cosine(progress: float, recipe: SentimentRecipe) -> float:
    """Return the learning rate as a share of its peak: a linear rise, then half a cosine down to 3%."""
    rise = min(1.0, (progress + 1e-3) / recipe.warmup)
    return rise * max(0.03, 0.5 * (1 + math.cos(math.pi * progress)))
