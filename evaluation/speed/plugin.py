"""Decant inside `vllm serve`: what the plug-in costs plain requests, and best-of-N there against `decant serve`."""

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from evaluation.speed.alternating import GIB, both_orders, demo_settings, ratios, timed_request, unseen_prompt
from evaluation.speed.load import requests_per_second
from evaluation.speed.speed_ratio import SpeedRatio, summarise
from evaluation.speed.throughput import CONCURRENCY, completion_bodies
from evaluation.support.servers import decant, vllm_args, vllm_serve
from evaluation.support.tiny_models import make_tiny_models

console = Console()


def plugin() -> list[SpeedRatio]:
    """Measure both."""
    return [plain_requests(), best_of_n()]


def plain_requests() -> SpeedRatio:
    """Return the rate of plain requests with the plug-in over that without, on a tiny random model."""
    name = "requests/s, tiny random model, `vllm serve` with the plug-in"
    console.print(f"[bold]{name}[/]: starting `vllm serve` twice, in both orders")
    with tempfile.TemporaryDirectory() as folder:
        engine = {"max_model_len": 512, "kv_cache_memory_bytes": GIB // 4, "dtype": "float32", "enforce_eager": True}
        model = str(make_tiny_models(Path(folder))["policy"])
        config = _written(Path(folder), {"policy": {"model": model, "name": "m", "engine": engine}})
        words = vllm_args(config)

        def turn(url: str) -> float:
            return requests_per_second(url, completion_bodies(1000, 16), CONCURRENCY)

        found = both_orders(
            lambda: _hosted(config, words),
            lambda: vllm_serve(words),
            lambda ours, theirs: ratios(lambda: turn(ours), lambda: turn(theirs), turns=15),
        )
    return summarise(name, found, "at least 0.98")


def best_of_n(n: int = 16, tokens: int = 32) -> SpeedRatio:
    """Return the speed of best-of-N in the plug-in over that of `decant serve`: its wall time over the plug-in's."""
    name = f"speed of best of {n}, plug-in against `decant serve`"
    console.print(f"[bold]{name}[/]: starting `vllm serve` and `decant serve`, in both orders")

    def compare(ours: str, theirs: str) -> list[float]:
        def wall(client: httpx.Client) -> float:
            return timed_request(client, {"strategy": "best_of_n", "n": n}, unseen_prompt(), tokens)[0]

        with httpx.Client(base_url=ours, timeout=600) as inside, httpx.Client(base_url=theirs, timeout=600) as beside:
            return ratios(lambda: wall(beside), lambda: wall(inside), turns=8)

    with tempfile.TemporaryDirectory() as folder:
        config = _written(Path(folder), demo_settings())
        words = vllm_args(config)
        found = both_orders(lambda: _hosted(config, words), lambda: decant(demo_settings()), compare)
    return summarise(name, found, "at least 0.95")


def _written(folder: Path, settings: dict[str, Any]) -> Path:
    config = folder / "decant.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def _hosted(config: Path, words: list[str]) -> AbstractContextManager[str]:
    """Run `vllm serve` with the plug-in while the block runs; the block gets its address."""
    return vllm_serve(words, DECANT_CONFIG=str(config), VLLM_PLUGINS="decant")
