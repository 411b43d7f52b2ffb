"""Wall time of best-of-N over HTTP, against raw vLLM in one process."""

import httpx
from rich.console import Console

from evaluation.speed.alternating import demo_settings, ratios, raw_vllm, timed_request, unseen_prompt
from evaluation.speed.speed_ratio import SpeedRatio, summarise
from evaluation.support.servers import decant

console = Console()


def best_of_n(n: int = 16, tokens: int = 32) -> list[SpeedRatio]:
    """Measure the best of `n` completions of `tokens` tokens each."""
    name = f"wall time, best of {n}"
    console.print(f"[bold]{name}[/]: starting raw vLLM and `decant serve`")
    with raw_vllm() as raw, decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:

        def theirs() -> float:
            return raw({"n": n, "max_tokens": tokens, "tokens": unseen_prompt()})

        def ours() -> float:
            return timed_request(client, {"strategy": "best_of_n", "n": n}, unseen_prompt(), tokens)[0]

        return [summarise(name, ratios(ours, theirs, turns=8), "at most 1.10")]
