"""Plain laws, guided laws and rewards by Transformers in float32: the reference for what vLLM serves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from training.guided_reference import guided_law


@cache
def transformers(path: Path, kind: str) -> Any:
    """Load a checkpoint as `AutoModelFor` + `kind`, in float32."""
    import torch
    import transformers as library

    return getattr(library, f"AutoModelFor{kind}").from_pretrained(path, dtype=torch.float32).eval()


@cache
def tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


def classify(path: Path, ids: Sequence[int], kind: str = "SequenceClassification") -> Any:
    """Return the logits of a classifier: [outputs], or [tokens, outputs] of a token classifier."""
    import torch

    with torch.no_grad():
        return transformers(path, kind)(torch.tensor([list(ids)])).logits[0]


def logits(path: Path, ids: Sequence[int], size: int | None = None) -> Any:
    """Return the scores of a causal model after each of `ids`, for its first `size` tokens: [len(ids), size]."""
    import torch

    with torch.no_grad():
        return transformers(path, "CausalLM")(torch.tensor([list(ids)])).logits[0, :, :size]


def head_scores(policy: Path, head: Path, ids: Sequence[int]) -> Any:
    """Return the scores of a head on the policy's last hidden states after each of `ids`: [len(ids), vocabulary]."""
    import torch
    from safetensors.torch import load_file

    with torch.no_grad():
        hidden = transformers(policy, "CausalLM").model(torch.tensor([list(ids)])).last_hidden_state[0]
        return hidden @ load_file(head)["weight"].T


@dataclass
class Reference:
    """The law of a policy with guides: `training.guided_reference.guided_law` of whole models' log-softmaxes.

    Args:
        policy: a causal model.
        guides: causal models by name.
        references: for a guide that is a ratio, the model to divide by.
        q: Q functions by name, whose scores are not normalised: causal models, or heads on the policy in one file.
    """

    policy: Path
    guides: dict[str, Path] = field(default_factory=dict)
    references: dict[str, Path] = field(default_factory=dict)
    q: dict[str, Path] = field(default_factory=dict)

    def law(self, ids: Sequence[int], weights: dict[str, float], policy: float = 1.0) -> Any:
        """Return log p(. | ids[: t + 1]) for each t, with the exponent `policy` of pi: [len(ids), vocabulary]."""
        size = transformers(self.policy, "CausalLM").config.vocab_size

        def normalised(path: Path) -> Any:
            return logits(path, ids, size).log_softmax(-1)

        scores: list[tuple[Any, float]] = []
        for name, weight in weights.items():
            if name in self.q:
                path = self.q[name]
                scores.append((head_scores(self.policy, path, ids) if path.suffix else logits(path, ids, size), weight))
                continue
            scores.append((normalised(self.guides[name]), weight))
            if name in self.references:
                scores.append((normalised(self.references[name]), -weight))
        return guided_law(normalised(self.policy), scores, policy=policy)

    def greedy(self, prompt: Sequence[int], weights: dict[str, float], count: int) -> tuple[list[int], list[float]]:
        """Return the `count` likeliest tokens after `prompt`, the end token ignored, and their log-probabilities."""
        ids, logprobs = list(prompt), []
        for _ in range(count):
            row = self.law(ids, weights)[-1]
            ids.append(int(row.argmax()))
            logprobs.append(float(row[ids[-1]]))
        return ids[len(prompt) :], logprobs

    def logprobs(
        self, prompt: Sequence[int], tokens: Sequence[int], weights: dict[str, float], policy: float = 1.0
    ) -> list[float]:
        """Return log p(token) of each of `tokens` after `prompt`."""
        law = self.law([*prompt, *tokens], weights, policy)
        return [float(law[len(prompt) + i - 1, token]) for i, token in enumerate(tokens)]


def greedy(path: Path, prompt: Sequence[int], count: int) -> tuple[list[int], list[float]]:
    """Return `Reference.greedy` of a model without guides."""
    return Reference(path).greedy(prompt, {}, count)


def teacher_forced(path: Path, ids: Sequence[int]) -> list[float]:
    """Return log pi(token | those before it) of every token but the first."""
    return Reference(path).logprobs(ids[:1], ids[1:], {})
