"""How fast the searches are that score unfinished answers. See `python -m evaluation.speed`."""

import httpx
from rich.console import Console

from evaluation.speed.alternating import demo_settings, ratios, raw_vllm, timed_request, unseen_prompt
from evaluation.speed.speed_ratio import SpeedRatio, summarise
from evaluation.support.servers import decant

PROMPT, LENGTH, BLOCK = 100, 64, 16  # tokens
CANDIDATES = 4
console = Console()


def blocks() -> list[SpeedRatio]:
    """Measure blockwise controlled decoding against raw vLLM, and how much of it the prefix cache serves."""
    console.print("[bold]blocks[/]: starting raw vLLM and `decant serve`")
    with raw_vllm() as raw, decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:
        decoding = {"strategy": "controlled", "candidates": CANDIDATES, "block_tokens": BLOCK}

        def theirs() -> float:
            return raw({"n": CANDIDATES, "max_tokens": LENGTH, "blocks": BLOCK, "tokens": unseen_prompt(PROMPT)})

        def ours() -> float:
            return timed_request(client, decoding, unseen_prompt(PROMPT), LENGTH)[0]

        name = f"wall time, the best of {CANDIDATES} blocks of {BLOCK}"
        rows = [summarise(name, ratios(ours, theirs, turns=6), "at most 1.20")]
        shares = [_cached_share(client) for _ in range(4)]
        rows.append(summarise("resubmitted tokens in the cache", shares, "at least 0.90"))
    return rows


def _cached_share(client: httpx.Client) -> float:
    """Run a search; return the share of its resubmitted tokens that the prefix cache held."""

    def counts(length: int) -> tuple[float, float]:
        before = _cache_counts(client)
        decoding = {"strategy": "controlled", "candidates": CANDIDATES, "block_tokens": BLOCK}
        timed_request(client, decoding, unseen_prompt(PROMPT), length)
        after = _cache_counts(client)
        return after[0] - before[0], after[1] - before[1]

    once, all_ = counts(BLOCK), counts(2 * LENGTH)  # the first block resubmits nothing
    return (all_[0] - once[0]) / (all_[1] - once[1])


def _cache_counts(client: httpx.Client) -> tuple[float, float]:
    """Return vLLM's counts of prefix tokens found in its cache and looked up there."""
    counts = {"hits": 0.0, "queries": 0.0}
    for line in client.get("/metrics").text.splitlines():
        for name in counts:
            if line.startswith(f"vllm:prefix_cache_{name}_total"):
                counts[name] += float(line.rsplit(" ", 1)[1])
    return counts["hits"], counts["queries"]


def particles(count: int = 16) -> list[SpeedRatio]:
    """Measure `count` particles against as many plain samples."""
    console.print("[bold]particles[/]: starting `decant serve`")
    with decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:
        decoding = {"strategy": "particles", "particles": count, "block_tokens": BLOCK}

        def ours() -> float:
            return timed_request(client, decoding, unseen_prompt(PROMPT), LENGTH)[0]

        def theirs() -> float:
            return timed_request(client, {"strategy": "sample"}, unseen_prompt(PROMPT), LENGTH, n=count)[0]

        return [summarise(f"wall time, {count} particles against {count} samples", ratios(ours, theirs, turns=6), "")]


def early(n: int = 32) -> list[SpeedRatio]:
    """Measure speculative rejection from `n` candidates against full best-of-`n`."""
    console.print("[bold]early[/]: starting `decant serve`")
    with decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:
        tokens: list[float] = []

        def ours() -> float:
            decoding = {"strategy": "speculative_rejection", "n": n, "checkpoints": [BLOCK, 2 * BLOCK]}
            seconds, report = timed_request(client, decoding, unseen_prompt(PROMPT), LENGTH)
            tokens.append(report["cost"]["generated_tokens"] / (n * LENGTH))
            return seconds

        def theirs() -> float:
            return timed_request(client, {"strategy": "best_of_n", "n": n}, unseen_prompt(PROMPT), LENGTH)[0]

        name = f"speculative rejection against best of {n}"
        return [
            summarise(f"wall time, {name}", ratios(ours, theirs, turns=4), ""),
            summarise(f"tokens, {name}", tokens, ""),
        ]
