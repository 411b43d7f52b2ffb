"""Requests with guides."""

from typing import Any

from tests.support.engine import Tiny

KINDS = {"weak": "arm", "tuned": "implicit", "expert": "implicit", "values": "q_head"}
TEXT = "The quick brown fox jumps over the lazy dog. A good answer is"
WEIGHTS: list[dict[str, float]] = [
    {"weak": 1.0},
    {"weak": 0.5, "tuned": -1.0},
    {"expert": 0.8},
    {"values": 1.5},
    {"weak": -0.4, "values": -1.0, "tuned": 2.0, "expert": 0.3},
]
ONE = {"weak": 0.7, "values": 1.0, "tuned": 0.5}


def guided(guides: dict[str, float], strategy: str = "reward_guided", **more: Any) -> dict[str, Any]:
    return {"strategy": strategy, "guides": guides, **more}


def choice(tiny: Tiny, guides: dict[str, float], prompt: Any = TEXT, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = tiny.post(prompt=prompt, decoding=guided(guides), **more)["choices"][0]
    return found
