"""A real `decant serve` on tiny random models: its settings, and its client."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from evaluation.support.tiny_models import STEP
from tests.support.reference import tokenizer

ENGINE = {"dtype": "float32", "max_model_len": 1024, "kv_cache_memory_bytes": 2**28, "enforce_eager": True}


def settings(models: dict[str, Path]) -> dict[str, Any]:
    process = {"kind": "process", "model": str(models["process"]), "engine": ENGINE}
    beside = guided(models)
    return {
        **beside,
        "policy": {"model": str(models["policy"]), "name": "tiny", "engine": {**ENGINE, "max_num_seqs": 32}},
        "rewards": {
            "default": {"kind": "classifier", "model": str(models["classifier"]), "engine": ENGINE},
            "steps": {**process, "reduce": "mean"},
            "tagged": {**process, "reduce": "min", "step_tag": STEP, "step_separator": "\n"},
            "foreign": {"kind": "classifier", "model": str(models["other"]), "engine": ENGINE},
            **beside["rewards"],
        },
        "server": {"max_sequences": 64},
    }


def guided(models: dict[str, Path]) -> dict[str, Any]:
    """Return settings of guides on an engine of their own, so that plain requests use an engine without guides."""
    names = {name: str(path) for name, path in models.items()}
    return {
        "guides": {
            "weak": {"kind": "arm", "model": names["llama"]},
            "tuned": {"kind": "implicit", "model": names["adapter"]},
            "expert": {"kind": "implicit", "model": names["window"], "reference": names["llama"]},
            "values": {"kind": "q_head", "head": names["head"]},
        },
        "guided_engine": {"max_num_seqs": 16},
        "rewards": {
            "likely": {"kind": "guide", "guide": "weak"},
            "implied": {"kind": "guide", "guide": "tuned"},
        },
    }


@dataclass
class Tiny:
    """The server's client, and the models that it serves."""

    client: httpx.Client
    models: dict[str, Path]
    prompts: dict[str, list[int]] = field(default_factory=dict)

    def ids(self, text: str, model: str = "policy") -> list[int]:
        return list(tokenizer(self.models[model]).encode(text, add_special_tokens=False))

    def post(self, path: str = "/v1/completions", **body: Any) -> dict[str, Any]:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples on /metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ")))
