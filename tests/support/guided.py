"""Random models that share a vocabulary, and the guided law computed by Transformers, one token at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.support.tiny_models import CHAT, CONTEXT, save_with_tokenizer, tokenizer

VOCABULARY = 384


def make(root: Path, policy: Path | None = None) -> dict[str, Path]:
    """Causal models under `root` by name; an adapter on the policy, the same merged, and a head on hidden states.

    They are for the `policy` that is given, or else for one that is made too, and then `qwen` is among them.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
    from transformers import Qwen2Config as QwenConfig
    from transformers import Qwen2ForCausalLM as Qwen

    if policy is None:
        words = tokenizer(VOCABULARY, CHAT)
        words.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})  # Qwen's class would add it itself
    else:
        words = AutoTokenizer.from_pretrained(policy)
    common = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "initializer_range": 0.15,
        "tie_word_embeddings": False,
    }

    def shape(width: int, layers: int, heads: int, kv: int, **more: Any) -> dict[str, Any]:
        return {
            **common,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            **more,
        }

    def save(name: str, model: Any) -> Path:
        return save_with_tokenizer(root / name, model.to(torch.float32), words)

    made: dict[str, Path] = {} if policy is None else {"policy": policy}
    recipes: dict[str, tuple[type[Any], Any]] = {
        "policy": (LlamaForCausalLM, LlamaConfig(**shape(64, 2, 4, 2, head_dim=32))),
        "llama": (LlamaForCausalLM, LlamaConfig(**shape(48, 1, 2, 1, head_dim=64))),
        "qwen": (Qwen, QwenConfig(**shape(96, 3, 3, 3))),
        "window": (MistralForCausalLM, MistralConfig(**shape(64, 2, 4, 2, head_dim=32, sliding_window=8))),
        "narrow": (MistralForCausalLM, MistralConfig(**shape(48, 1, 2, 2, head_dim=32, sliding_window=5))),
        "long": (LlamaForCausalLM, LlamaConfig(**{**shape(64, 1, 2, 2, head_dim=32), "vocab_size": VOCABULARY + 16})),
    }
    for seed, (name, (model, config)) in enumerate(recipes.items()):
        torch.manual_seed(seed)
        if name not in made and (policy is None or name != "qwen"):
            made[name] = save(name, model(config))
    torch.manual_seed(9)
    base = LlamaForCausalLM.from_pretrained(made["policy"], dtype=torch.float32)
    modules = ["q_proj", "v_proj", "o_proj", "down_proj"]
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=modules, layers_to_transform=[1], task_type="CAUSAL_LM")
    tuned = get_peft_model(base, lora)
    for weight_name, weight in tuned.named_parameters():
        if "lora_" in weight_name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(root / "adapter")
    made["adapter"] = root / "adapter"
    made["tuned"] = save("tuned", tuned.merge_and_unload())
    made["head"] = root / "head.safetensors"
    save_file({"weight": torch.randn(base.config.vocab_size, 64) * 0.2}, made["head"])
    return made


@cache
def model(path: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def logits(path: Path, ids: Sequence[int], size: int | None = None) -> Any:
    """[tokens, vocabulary] of one model, its scores as they are; of the first `size` tokens."""
    import torch

    with torch.no_grad():
        return model(path)(torch.tensor([list(ids)])).logits[0, :, :size]


def head_scores(policy: Path, head: Path, ids: Sequence[int]) -> Any:
    """[tokens, vocabulary] of a head on the policy's last hidden states."""
    import torch
    from safetensors.torch import load_file

    with torch.no_grad():
        return model(policy).model(torch.tensor([list(ids)])).last_hidden_state[0] @ load_file(head)["weight"].T


@dataclass
class Reference:
    """The guided law by its definition: log-softmaxes of whole models, weighted and summed; `q` adds raw scores."""

    policy: Path
    guides: dict[str, Path]
    references: dict[str, Path] = field(default_factory=dict)
    q: dict[str, Path] = field(default_factory=dict)

    def law(self, ids: Sequence[int], weights: dict[str, float], policy: float = 1.0) -> Any:
        """log p(. | ids[: t + 1]) for each t; [tokens, vocabulary]."""
        size = model(self.policy).config.vocab_size
        total = policy * logits(self.policy, ids).log_softmax(-1)
        for name, weight in weights.items():
            if name in self.q:
                path = self.q[name]
                scores = head_scores(self.policy, path, ids) if path.suffix else logits(path, ids, size)
                total = total + weight * scores
                continue
            total = total + weight * logits(self.guides[name], ids, size).log_softmax(-1)
            if name in self.references:
                total = total - weight * logits(self.references[name], ids, size).log_softmax(-1)
        return total.log_softmax(-1)

    def greedy(self, prompt: Sequence[int], weights: dict[str, float], count: int) -> tuple[list[int], list[float]]:
        """The likeliest tokens, end-of-sequence ignored, and their log-probabilities."""
        ids, logprobs = list(prompt), []
        for _ in range(count):
            row = self.law(ids, weights)[-1]
            ids.append(int(row.argmax()))
            logprobs.append(float(row[ids[-1]]))
        return ids[len(prompt) :], logprobs

    def logprobs(self, prompt: Sequence[int], tokens: Sequence[int], weights: dict[str, float], **more: float) -> Any:
        """log p(token) of each of `tokens` after `prompt`."""
        law = self.law([*prompt, *tokens], weights, **more)
        return [float(law[len(prompt) + i - 1, token]) for i, token in enumerate(tokens)]
