"""Two sides that take turns: Decant over HTTP, and raw vLLM in a process of its own, both on the demo's models."""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track

from evaluation.servers import process, wait
from server.demo.defaults import cpu_arguments
from server.demo.world import ensure

GIB = 2**30
CHUNKS = {"enable_chunked_prefill": False}  # Decant's own choices on CPU, so the other side has them too
BLOCKS = {"block_size": 32}
console = Console()


def engine() -> dict[str, Any]:
    return {"max_model_len": 1024, "kv_cache_memory_bytes": GIB, **cpu_arguments()}


def demo_settings() -> dict[str, Any]:
    """The demo's policy with its reward alone."""
    world = ensure()
    return {
        "policy": {"model": str(world.policy), "name": "m", "engine": engine()},
        "rewards": {
            "default": {"kind": "classifier", "model": str(world.reward), "engine": engine(), "template": "policy"}
        },
    }


@contextmanager
def raw_vllm() -> Iterator[Callable[[dict[str, Any]], float]]:
    """Asks `evaluation.raw`; the seconds it took."""
    world = ensure()
    arguments = {**engine(), **(CHUNKS | BLOCKS if "dtype" in engine() else {})}
    models = {"policy": str(world.policy), "reward": str(world.reward), "engine": arguments}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "evaluation.raw", json.dumps(models)]
        with process(command, log, VLLM_LOGGING_LEVEL="ERROR") as raw:
            assert raw.stdin is not None
            assert raw.stdout is not None

            def hear() -> dict[str, Any]:
                assert raw.stdout is not None
                for line in raw.stdout:
                    if line.startswith(">"):
                        heard: dict[str, Any] = json.loads(line[1:])
                        return heard
                raise SystemExit(f"raw vLLM ended:\n{log.read_text()[-3000:]}")

            def told(question: dict[str, Any]) -> float:
                assert raw.stdin is not None
                raw.stdin.write(json.dumps(question) + "\n")
                raw.stdin.flush()
                return float(hear()["seconds"])

            wait(raw, log, lambda: hear()["ready"])
            yield told


def ask(
    client: httpx.Client, decoding: dict[str, Any], tokens: list[int], length: int, n: int = 1
) -> tuple[float, dict[str, Any]]:
    """Seconds of one request for answers of this length, and its report."""
    body = {"prompt": tokens, "max_tokens": length, "ignore_eos": True, "n": n, "decoding": decoding}
    started = time.perf_counter()
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - started, answer.json()["decoding"]


def ratios(ours: Callable[[], float], theirs: Callable[[], float], turns: int) -> list[float]:
    """ours/theirs at each turn, the first of each thrown away."""
    ours(), theirs()
    found = []
    for i in track(range(turns), "taking turns", console=console, transient=True):
        first, second = (ours, theirs) if i % 2 else (theirs, ours)
        a, b = first(), second()
        found.append(a / b if first is ours else b / a)
    return found


def prompt(tokens: int = 20) -> list[int]:
    """Tokens that no cache has seen."""
    return [random.randrange(100, 300) for _ in range(tokens)]
