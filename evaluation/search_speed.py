"""How fast the searches are that look at unfinished answers. See `evaluation.speed`."""

import httpx
from rich.console import Console

from evaluation.beside import ask, demo_settings, prompt, ratios, raw_vllm
from evaluation.rows import Row, row
from evaluation.servers import decant

PROMPT, LENGTH, BLOCK, CANDIDATES = 100, 64, 16, 4
console = Console()


def blocks() -> list[Row]:
    console.print("[bold]blocks[/]: starting raw vLLM and `decant serve`")
    with raw_vllm() as raw, decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:
        decoding = {"strategy": "controlled", "candidates": CANDIDATES, "block_tokens": BLOCK}

        def theirs() -> float:
            return raw({"n": CANDIDATES, "max_tokens": LENGTH, "blocks": BLOCK, "tokens": prompt(PROMPT)})

        def ours() -> float:
            return ask(client, decoding, prompt(PROMPT), LENGTH)[0]

        name = f"wall time, the best of {CANDIDATES} blocks of {BLOCK}"
        rows = [row(name, ratios(ours, theirs, turns=6), "at most 1.20")]
        rows.append(row("resubmitted tokens in the cache", [_cached(client) for _ in range(4)], "at least 0.90"))
    return rows


def _cached(client: httpx.Client) -> float:
    """The share of a search's resubmitted tokens that the prefix cache had."""

    def counts(length: int) -> tuple[float, float]:
        before = _cache(client)
        ask(client, {"strategy": "controlled", "candidates": 4, "block_tokens": BLOCK}, prompt(PROMPT), length)
        after = _cache(client)
        return after[0] - before[0], after[1] - before[1]

    once, all_ = counts(BLOCK), counts(2 * LENGTH)  # the first block resubmits nothing
    return (all_[0] - once[0]) / (all_[1] - once[1])


def _cache(client: httpx.Client) -> tuple[float, float]:
    """vLLM's counts of prefix tokens found and looked for."""
    counts = {"hits": 0.0, "queries": 0.0}
    for line in client.get("/metrics").text.splitlines():
        for name in counts:
            if line.startswith(f"vllm:prefix_cache_{name}_total"):
                counts[name] += float(line.rsplit(" ", 1)[1])
    return counts["hits"], counts["queries"]


def particles(count: int = 16) -> list[Row]:
    console.print("[bold]particles[/]: starting `decant serve`")
    with decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:
        decoding = {"strategy": "particles", "particles": count, "block_tokens": BLOCK}

        def ours() -> float:
            return ask(client, decoding, prompt(PROMPT), LENGTH)[0]

        def theirs() -> float:
            return ask(client, {"strategy": "sample"}, prompt(PROMPT), LENGTH, n=count)[0]

        return [row(f"wall time, {count} particles against {count} samples", ratios(ours, theirs, turns=6), "")]


def early(n: int = 32) -> list[Row]:
    console.print("[bold]early[/]: starting `decant serve`")
    with decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:
        tokens: list[float] = []

        def ours() -> float:
            decoding = {"strategy": "speculative_rejection", "n": n, "checkpoints": [BLOCK, 2 * BLOCK]}
            seconds, report = ask(client, decoding, prompt(PROMPT), LENGTH)
            tokens.append(report["cost"]["generated_tokens"] / (n * LENGTH))
            return seconds

        def theirs() -> float:
            return ask(client, {"strategy": "best_of_n", "n": n}, prompt(PROMPT), LENGTH)[0]

        name = f"speculative rejection against best of {n}"
        return [
            row(f"wall time, {name}", ratios(ours, theirs, turns=4), ""),
            row(f"tokens, {name}", tokens, ""),
        ]
