"""Random models that share a vocabulary: a policy, and guides of every kind."""

from pathlib import Path
from typing import Any

from evaluation.support.tiny_models import CHAT, CONTEXT, make_tokenizer, save_with_tokenizer

VOCABULARY = 384


def make_guided_models(root: Path, policy: Path | None = None) -> dict[str, Path]:
    """Save models under `root`; return their paths by name.

    They are causal models, an adapter on the policy (`adapter`), the policy with the adapter merged (`tuned`), and a
    head on the policy's hidden states (`head`).

    Args:
        root: a folder.
        policy: an existing checkpoint to use as the policy. None makes one, and `qwen` besides.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
    from transformers import Qwen2Config as QwenConfig
    from transformers import Qwen2ForCausalLM as Qwen

    if policy is None:
        words = make_tokenizer(VOCABULARY, CHAT)
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
