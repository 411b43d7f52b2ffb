"""Two sides that take turns on the demo's models: Decant over HTTP, and raw vLLM in a process of its own."""

import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from rich.console import Console
from rich.progress import track

from evaluation.speed.json_child import json_child
from server.demo.defaults import cpu_arguments
from server.demo.world import ensure

GIB = 2**30
CHUNKS = {"enable_chunked_prefill": False}  # Decant chooses these two on a CPU, so the other side gets them too
BLOCKS = {"block_size": 32}
Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")
console = Console()


def engine_arguments() -> dict[str, Any]:
    """Return the engine arguments of the demo's models, the same on both sides."""
    return {"max_model_len": 1024, "kv_cache_memory_bytes": GIB, **cpu_arguments()}


def demo_settings() -> dict[str, Any]:
    """Return settings with the demo's policy and its reward, without guides."""
    world = ensure()
    engine = engine_arguments()
    return {
        "policy": {"model": str(world.policy), "name": "m", "engine": engine},
        "rewards": {
            "default": {"kind": "classifier", "model": str(world.reward), "engine": engine, "template": "policy"}
        },
    }


@contextmanager
def raw_vllm() -> Iterator[Callable[[dict[str, Any]], float]]:
    """Start `evaluation.speed.raw_vllm`; yield a function that sends it a request and returns the seconds it took."""
    world = ensure()
    engine = engine_arguments()
    arguments = {**engine, **(CHUNKS | BLOCKS if "dtype" in engine else {})}
    models = {"policy": str(world.policy), "reward": str(world.reward), "engine": arguments}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with json_child("evaluation.speed.raw_vllm", models, log, VLLM_LOGGING_LEVEL="ERROR") as child:
            assert child.read()["ready"]
            yield lambda request: float(child.ask(request)["seconds"])


def timed_request(
    client: httpx.Client, decoding: dict[str, Any], tokens: list[int], length: int, n: int = 1
) -> tuple[float, dict[str, Any]]:
    """Send one completions request.

    Args:
        decoding: the request's `decoding` object.
        tokens: the prompt's token ids.
        length: tokens of each answer, exactly: the end-of-sequence token is ignored.
        n: answers.

    Returns:
        The seconds it took, and the response's `decoding` object.
    """
    body = {"prompt": tokens, "max_tokens": length, "ignore_eos": True, "n": n, "decoding": decoding}
    started = time.perf_counter()
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - started, answer.json()["decoding"]


def ratios(ours: Callable[[], float], theirs: Callable[[], float], turns: int) -> list[float]:
    """Return ours/theirs at each of `turns` turns; each side also runs once before, which does not count."""
    ours(), theirs()
    found = []
    for i in track(range(turns), "taking turns", console=console, transient=True):
        first, second = (ours, theirs) if i % 2 else (theirs, ours)
        a, b = first(), second()
        found.append(a / b if first is ours else b / a)
    return found


def both_orders(
    ours: Callable[[], AbstractContextManager[Ours]],
    theirs: Callable[[], AbstractContextManager[Theirs]],
    compare: Callable[[Ours, Theirs], list[float]],
) -> list[float]:
    """Return the ratios of two sides, of which each was started first once.

    On a CPU the side that starts second is up to a tenth faster, whichever it is: its memory lies better. The geometric
    mean of a ratio in one order and one in the other is free of that.

    Args:
        ours: starts Decant while its block runs.
        theirs: starts the other side.
        compare: gives ours/theirs at each turn.
    """
    with ours() as one, theirs() as other:
        first = compare(one, other)
    with theirs() as other, ours() as one:
        second = compare(one, other)
    return [math.sqrt(a * b) for a, b in zip(first, second, strict=True)]


def unseen_prompt(tokens: int = 20) -> list[int]:
    """Return random token ids, so that no prefix cache holds them."""
    return [random.randrange(100, 300) for _ in range(tokens)]
