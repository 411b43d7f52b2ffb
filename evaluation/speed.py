"""How fast Decant is beside what one would use instead: ratios, each within one run on one machine.

    python -m evaluation.speed [plain] [tiny] [best_of_n] [guided] [blocks] [particles] [early]

plain, tiny   requests a second at concurrency 16 against `vllm serve` with the same engine arguments, on the demo
              policy and on a tiny random model, where the server itself is the load
best_of_n     wall time of best-of-16 over HTTP against raw vLLM: generate(n=16), then one classify call
guided        tokens/s of guided decoding against its limit, a guide in a logits processor and a Transformers loop,
              and of plain requests on the same engine against one without guides
blocks        wall time of blockwise controlled decoding against raw vLLM that generates as many tokens and scores the
              same unfinished answers; the share of resubmitted tokens that the prefix cache has
particles     wall time of particles against as many plain samples
early         wall time and tokens of speculative rejection against full best-of-N, at whatever reward each has

Both sides are up at once and take turns, so that what else the machine does meets both alike; a ratio is the median
over turns.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from evaluation.beside import GIB, ask, demo_settings, prompt, ratios, raw_vllm
from evaluation.guided_speed import guided
from evaluation.load import rate
from evaluation.rows import Row, row
from evaluation.search_speed import blocks, early, particles
from evaluation.servers import decant, vllm
from evaluation.tiny import make_policy
from server.demo.defaults import cpu_arguments
from server.demo.world import ensure

CONCURRENCY = 16
CHUNKS = {"enable_chunked_prefill": False}  # Decant's own choice on CPU, so the other side has it too
console = Console()


def plain() -> list[Row]:
    engine = {"max_model_len": 1024, "kv_cache_memory_bytes": GIB, **cpu_arguments()}
    name, aim = "requests/s, demo policy", "at least 0.95"
    return [row(name, _against_vllm(name, str(ensure().policy), engine, requests=64, tokens=24, turns=5), aim)]


def tiny() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        engine = {"max_model_len": 512, "kv_cache_memory_bytes": GIB // 4, "dtype": "float32", "enforce_eager": True}
        name, aim = "requests/s, tiny random model", "at least 0.85"
        model = str(make_policy(Path(folder)))
        return [row(name, _against_vllm(name, model, engine, requests=1000, tokens=16, turns=7), aim)]


def _against_vllm(
    name: str, model: str, engine: dict[str, Any], *, requests: int, tokens: int, turns: int
) -> list[float]:
    console.print(f"[bold]{name}[/]: starting `vllm serve` and `decant serve`")
    settings = {"policy": {"model": model, "name": "m", "engine": engine}}
    with vllm(model, "m", {**engine, **CHUNKS}) as theirs, decant(settings) as ours:

        def turn(url: str) -> float:
            return rate(url, _bodies(requests, tokens), CONCURRENCY)

        return ratios(lambda: turn(ours), lambda: turn(theirs), turns)


def best_of_n(n: int = 16, tokens: int = 32) -> list[Row]:
    name = f"wall time, best of {n}"
    console.print(f"[bold]{name}[/]: starting raw vLLM and `decant serve`")
    with raw_vllm() as raw, decant(demo_settings()) as url, httpx.Client(base_url=url, timeout=600) as client:

        def theirs() -> float:
            return raw({"n": n, "max_tokens": tokens, "tokens": prompt()})

        def ours() -> float:
            return ask(client, {"strategy": "best_of_n", "n": n}, prompt(), tokens)[0]

        return [row(name, ratios(ours, theirs, turns=8), "at most 1.10")]


def _bodies(requests: int, tokens: int) -> list[dict[str, Any]]:
    return [{"model": "m", "prompt": prompt(), "max_tokens": tokens, "ignore_eos": True} for _ in range(requests)]


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "plain": plain,
    "tiny": tiny,
    "best_of_n": best_of_n,
    "guided": guided,
    "blocks": blocks,
    "particles": particles,
    "early": early,
}


def main() -> None:
    table = Table("measure", "Decant / other", "IQR", "aim", title="Speed as ratios")
    for name in sys.argv[1:] or MEASURES:
        for label, ratio, spread, aim in MEASURES[name]():
            console.print(f"{label}: {ratio:.3f} (IQR {spread:.3f}, {aim})")
            table.add_row(label, f"{ratio:.3f}", f"{spread:.3f}", aim)
    console.print(table)


if __name__ == "__main__":
    main()
