"""What wide requests do to narrow ones: plain requests alone, and beside clients that each ask for the best of 64.

    python -m evaluation.fairness [--seconds 20] [--plain 4] [--wide 16] [--wide-share 8] [--picture fairness.png]

A tiny random model serves, on a real engine. Each client sends its next request when it has an answer. The first fifth
of each part does not count.
"""

import argparse
import asyncio
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from evaluation.support.servers import decant
from evaluation.support.tiny_models import make_tiny_models

N = 64
TOKENS = 16
CANDIDATE_TOKENS = 32
PLAIN: dict[str, Any] = {"max_tokens": TOKENS, "ignore_eos": True}
WIDE: dict[str, Any] = {
    "max_tokens": CANDIDATE_TOKENS,
    "ignore_eos": True,
    "decoding": {"strategy": "best_of_n", "n": N},
}


@dataclass
class Part:
    """What one part of the measurement saw: seconds of plain requests, and of wide ones."""

    name: str
    seconds: float
    plain: list[float] = field(default_factory=list)
    wide: list[float] = field(default_factory=list)

    def tokens_per_second(self) -> float:
        return (len(self.plain) * TOKENS + len(self.wide) * N * CANDIDATE_TOKENS) / self.seconds


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that a share `q` of all does not exceed; NaN of none."""
    return sorted(values)[math.ceil(q * len(values)) - 1] if values else math.nan


async def measure(url: str, name: str, seconds: float, plain: int, wide: int) -> Part:
    """Send requests from so many clients of each kind for `seconds`."""
    part = Part(name, seconds * 0.8)
    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client(body: dict[str, Any], seen: list[float]) -> None:
            while True:
                started = time.perf_counter()
                prompt = [random.randrange(100, 300) for _ in range(20)]
                async with session.post(
                    f"{url}/v1/completions", json={"model": "m", "prompt": prompt, **body}
                ) as answer:
                    text = await answer.read()
                    if answer.status != 200:
                        raise SystemExit(f"{url} answered {answer.status}: {text[:500]!r}")
                ended = time.perf_counter()
                if ended - began > seconds / 5:
                    seen.append(ended - started)

        clients = [client(PLAIN, part.plain) for _ in range(plain)] + [client(WIDE, part.wide) for _ in range(wide)]
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*clients)
        except TimeoutError:
            return part
    raise AssertionError("clients do not end by themselves")


def draw(parts: Sequence[Part], path: Path) -> None:
    """Save the plain requests' distribution functions as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for part in parts:
        if part.plain:
            axes.ecdf([1000 * s for s in part.plain], label=part.name)
    axes.set(xscale="log", xlabel="milliseconds", ylabel="share of plain requests answered within")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--plain", type=int, default=4)
    parser.add_argument("--wide", type=int, default=16)
    parser.add_argument("--wide-share", type=int, help="the setting server.wide_share")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    seconds, plain, wide = arguments.seconds, arguments.plain, arguments.wide
    server = {} if arguments.wide_share is None else {"wide_share": arguments.wide_share}
    with tempfile.TemporaryDirectory() as folder:
        engine = {"max_model_len": 512, "kv_cache_memory_bytes": 2**28, "dtype": "float32", "enforce_eager": True}
        settings = {
            "policy": {"model": str(make_tiny_models(Path(folder))["policy"]), "name": "m", "engine": engine},
            "rewards": {"default": {"kind": "function", "function": "server.demo.brevity:short_sentences"}},
            "server": server,
        }
        with decant(settings) as url:
            parts = [
                asyncio.run(measure(url, "plain alone", seconds, plain, 0)),
                asyncio.run(measure(url, f"beside {wide} clients of best-of-{N}", 2 * seconds, plain, wide)),
                asyncio.run(measure(url, f"{wide} clients of best-of-{N} alone", seconds, 0, wide)),
            ]
    table = Table("", "plain p50, ms", "p99, ms", "requests/s", f"best-of-{N} p50, s", "requests/s", "tokens/s, all")
    for part in parts:
        table.add_row(
            part.name,
            f"{1000 * quantile(part.plain, 0.5):.0f}",
            f"{1000 * quantile(part.plain, 0.99):.0f}",
            f"{len(part.plain) / part.seconds:.1f}",
            f"{quantile(part.wide, 0.5):.2f}",
            f"{len(part.wide) / part.seconds:.2f}",
            f"{part.tokens_per_second():.0f}",
        )
    console = Console(width=130)
    console.print(table)
    ratio = quantile(parts[1].plain, 0.99) / quantile(parts[0].plain, 0.99)
    console.print(f"plain p99 beside wide requests over its p99 alone: {ratio:.2f}")
    if arguments.picture is not None:
        draw(parts, arguments.picture)


if __name__ == "__main__":
    main()
