"""Requests per second of plain sampling, against `vllm serve` with the same engine arguments."""

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from evaluation.speed.alternating import CHUNKS, GIB, both_orders, engine_arguments, ratios, unseen_prompt
from evaluation.speed.load import requests_per_second
from evaluation.speed.speed_ratio import SpeedRatio, summarise
from evaluation.support.servers import decant, vllm
from evaluation.support.tiny_models import make_tiny_models
from server.demo.world import ensure

CONCURRENCY = 16
console = Console()


def plain() -> list[SpeedRatio]:
    """Measure on the demo policy."""
    name, aim = "requests/s, demo policy", "at least 0.95"
    model, engine = str(ensure().policy), engine_arguments()
    return [summarise(name, _against_vllm(name, model, engine, requests=64, tokens=24, turns=5), aim)]


def tiny() -> list[SpeedRatio]:
    """Measure on a tiny random model, which takes so little time that the server's own work shows."""
    with tempfile.TemporaryDirectory() as folder:
        engine = {"max_model_len": 512, "kv_cache_memory_bytes": GIB // 4, "dtype": "float32", "enforce_eager": True}
        name, aim = "requests/s, tiny random model", "at least 0.85"
        model = str(make_tiny_models(Path(folder))["policy"])
        return [summarise(name, _against_vllm(name, model, engine, requests=1000, tokens=16, turns=7), aim)]


def _against_vllm(
    name: str, model: str, engine: dict[str, Any], *, requests: int, tokens: int, turns: int
) -> list[float]:
    """Return Decant's rate over vLLM's at each turn; a turn is `requests` requests for `tokens` tokens each."""
    console.print(f"[bold]{name}[/]: starting `vllm serve` and `decant serve`")
    settings = {"policy": {"model": model, "name": "m", "engine": engine}}

    def turn(url: str) -> float:
        return requests_per_second(url, completion_bodies(requests, tokens), CONCURRENCY)

    return both_orders(
        lambda: decant(settings),
        lambda: vllm(model, "m", {**engine, **CHUNKS}),
        lambda ours, theirs: ratios(lambda: turn(ours), lambda: turn(theirs), turns),
    )


def completion_bodies(requests: int, tokens: int) -> list[dict[str, Any]]:
    """Return that many requests for that many tokens each, of prompts that no prefix cache holds."""
    return [
        {"model": "m", "prompt": unseen_prompt(), "max_tokens": tokens, "ignore_eos": True} for _ in range(requests)
    ]
