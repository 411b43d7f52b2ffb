"""Wall time of best-of-N over HTTP, against raw vLLM in one process."""

from collections.abc import Callable
from typing import Any

import httpx
from rich.console import Console

from evaluation.speed.alternating import both_orders, demo_settings, ratios, raw_vllm, timed_request, unseen_prompt
from evaluation.speed.speed_ratio import SpeedRatio, summarise
from evaluation.support.servers import decant

console = Console()


def best_of_n(n: int = 16, tokens: int = 32) -> list[SpeedRatio]:
    """Measure the best of `n` completions of `tokens` tokens each."""
    name = f"wall time, best of {n}"
    console.print(f"[bold]{name}[/]: starting raw vLLM and `decant serve`")

    def compare(url: str, raw: Callable[[dict[str, Any]], float]) -> list[float]:
        def theirs() -> float:
            return raw({"n": n, "max_tokens": tokens, "tokens": unseen_prompt()})

        def ours() -> float:
            return timed_request(client, {"strategy": "best_of_n", "n": n}, unseen_prompt(), tokens)[0]

        with httpx.Client(base_url=url, timeout=600) as client:
            return ratios(ours, theirs, turns=8)

    found = both_orders(lambda: decant(demo_settings()), raw_vllm, compare)
    return [summarise(name, found, "at most 1.10")]
