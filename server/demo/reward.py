"""The demo's reward model: the policy's first layers with a sentiment adapter merged in, and a linear head.

It reads the same token ids as the policy and returns one number, the log-odds that the text is a positive movie review.
The adapter (PEFT's format, `assets/sentiment/`) is made by `training.sentiment`, and the backbone comes from the
policy's checkpoint.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.demo.policy import quiet_transformers

ADAPTER = Path(__file__).parent / "assets" / "sentiment"
PACKAGES = ("peft",)
"""Packages that the merge needs besides Transformers."""


def build(policy: Path, directory: Path, report: Callable[[str], None], *, adapter: Path = ADAPTER) -> None:
    """Write a one-label `LlamaForSequenceClassification` in bf16 with the policy's tokenizer into `directory`.

    `policy` is a checkpoint directory of the model that the adapter was trained on. `report` is called with each stage.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    with quiet_transformers():
        layers = depth(adapter)
        report(f"reward: merging the sentiment adapter into the policy's first {layers} layers")
        # Merged in float32, so that a small change is rounded to bfloat16 only once, as part of its weight.
        model = PeftModel.from_pretrained(truncated(policy, layers), str(adapter)).merge_and_unload()
        model.to(torch.bfloat16)
        report(f"reward: writing bf16 weights ({model.num_parameters() * 2 / 1e6:.0f} MB)")
        model.save_pretrained(directory)
        AutoTokenizer.from_pretrained(policy).save_pretrained(directory)


def depth(adapter: Path) -> int:
    """Return the number of layers of the model that `adapter` was trained on; it always changes the top one."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return int(max(config["layers_to_transform"])) + 1


def truncated(policy: Path, layers: int) -> Any:
    """Return the policy's embeddings, first `layers` layers and norm, with a zero head of one label, in float32."""
    import torch
    from transformers import LlamaForSequenceClassification, LlamaModel

    backbone = LlamaModel.from_pretrained(policy, dtype=torch.float32)
    config = backbone.config
    config.num_hidden_layers = layers
    config.num_labels = 1
    config.architectures = ["LlamaForSequenceClassification"]
    # Transformers scores the last token that is not padding. The policy pads with its end-of-turn token, which is also
    # a text's last token and must count, so the reward pads with a token that no text has.
    config.pad_token_id = config.unk_token_id
    model = LlamaForSequenceClassification(config)
    kept = {
        name: weight
        for name, weight in backbone.state_dict().items()
        if not name.startswith("layers.") or int(name.split(".")[1]) < layers
    }
    model.model.load_state_dict(kept)
    model.float()
    torch.nn.init.zeros_(model.score.weight)
    return model
