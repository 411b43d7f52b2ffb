"""The settings of `decant serve` without a settings file."""

from pathlib import Path
from typing import Any

from server.demo.world import DemoWorld, default_cache, ensure

GIB = 2**30
ADAPTERS = Path(__file__).parent / "assets" / "guides"
GUIDES = ("positive", "brief")


def settings(world: DemoWorld | None = None) -> dict[str, Any]:
    """Return the settings of `world`, or of the one that `ensure` finds or makes. Raises DemoUnavailable."""
    world = world or ensure()
    store = default_cache() / f"calibration-{world.policy.name}-{world.reward.name}.sqlite"
    engine = {"max_model_len": 2048, "kv_cache_memory_bytes": GIB, **cpu_arguments()}
    return {
        "policy": {
            "model": str(world.policy),
            "name": "SmolLM2-135M-Instruct",
            "engine": engine,
            "tool_call_parser": "hermes",
        },
        "guides": {name: _guide(name, world.policy) for name in GUIDES},
        "calibration": {"store": str(store)},
        "rewards": {
            # Trained on the policy's own tokens, in turns that are open or end with the end-of-turn token alone.
            "default": {"kind": "classifier", "model": str(world.reward), "engine": engine, "template": "policy"},
            "tone": {"kind": "function", "function": "server.demo.tone:vader", "scores_all": True},
            "brevity": {"kind": "function", "function": "server.demo.brevity:short_sentences", "scores_all": True},
        },
    }


def _guide(name: str, policy: Path) -> dict[str, Any]:
    """Return a guide of an adapter in `assets`, relative to the policy, so that it adds only what it has learnt."""
    return {"kind": "implicit", "model": str(ADAPTERS / name), "base": str(policy)}


def cpu_arguments() -> dict[str, Any]:
    """Return engine arguments that suit small models on a CPU; none if there is a GPU.

    Eager, since compilation takes minutes at every start and saves little: most time goes into matrix products. In
    float32, since a CPU without bfloat16 instructions takes about seven times as long in bfloat16.
    """
    import torch

    return {} if torch.cuda.is_available() else {"enforce_eager": True, "dtype": "float32"}
