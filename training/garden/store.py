"""The six checkpoints on disk: plain Transformers folders, with a file of their digests and held-out metrics."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
)

ROOT = Path(__file__).parent / "checkpoints"
CLASSES: dict[str, Any] = {
    "policy": LlamaForCausalLM,
    "reward_helpful": LlamaForSequenceClassification,
    "reward_harmless": LlamaForSequenceClassification,
    "arm_helpful": LlamaForCausalLM,
    "arm_harmless": LlamaForCausalLM,
    "value_helpful": LlamaForTokenClassification,
}
_METRICS = "metrics.json"


def save(root: Path, name: str, model: Any, tokenizer: Any) -> None:
    """Write one model in float32 with its tokenizer to `root/name`."""
    model.save_pretrained(root / name)
    tokenizer.save_pretrained(root / name)


def load(name: str, root: Path = ROOT) -> Any:
    """Load one of `CLASSES`, in evaluation mode, on the CPU."""
    return CLASSES[name].from_pretrained(root / name, local_files_only=True).eval()


def load_tokenizer(root: Path = ROOT) -> Any:
    """Load the tokenizer of all six models."""
    return AutoTokenizer.from_pretrained(root / "policy", local_files_only=True)


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every checkpoint's weights and of the tokenizer, by name."""
    files = {name: root / name / "model.safetensors" for name in CLASSES}
    files["tokenizer"] = root / "policy" / "tokenizer.json"
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def write_metrics(root: Path, seed: int, metrics: dict[str, dict[str, float]]) -> None:
    """Record the seed, the digests of the files in `root`, and the models' held-out `metrics`."""
    record = {"seed": seed, "metrics": metrics, "sha256": digests(root)}
    (root / _METRICS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_metrics(root: Path = ROOT) -> dict[str, Any]:
    """Read what `write_metrics` recorded."""
    record: dict[str, Any] = json.loads((root / _METRICS).read_text(encoding="utf-8"))
    return record
