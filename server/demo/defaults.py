"""What `decant serve` serves when it is told nothing."""

from typing import Any

from server.demo.world import ensure

GIB = 2**30


def settings() -> dict[str, Any]:
    """Settings of the demo world, which is made first if it is not there yet. Raises DemoUnavailable."""
    world = ensure()
    engine = {"max_model_len": 2048, "kv_cache_memory_bytes": GIB, **cpu_arguments()}
    return {
        "policy": {"model": str(world.policy), "name": "SmolLM2-135M-Instruct", "engine": engine},
        "rewards": {
            "default": {"kind": "classifier", "model": str(world.reward), "engine": engine},
            "tone": {"kind": "function", "function": "server.demo.tone:vader"},
        },
    }


def cpu_arguments() -> dict[str, Any]:
    """Engine arguments that suit small models on a CPU; none where there is a GPU.

    Eager, since compiling takes minutes at every start, for models whose time goes into matrix products. In float32,
    since a CPU without bfloat16 instructions takes some seven times as long in bfloat16.
    """
    import torch

    return {} if torch.cuda.is_available() else {"enforce_eager": True, "dtype": "float32"}
