"""Settings of the garden's models, with which nothing is wrong, and functions beside them."""

from pathlib import Path
from typing import Any

from server import preflight
from server.settings.reading import read

ROOT = Path(__file__).parents[2]
GARDEN = ROOT / "training" / "garden" / "checkpoints"
POLICY, REWARD = str(GARDEN / "policy"), str(GARDEN / "reward_helpful")


def found(**sections: Any) -> list[str]:
    values = {"policy": {"model": POLICY}, "server": {"port": 0}, **sections}
    return preflight.problems(read(None, values, {}).sections)


def reward(**fields: Any) -> list[str]:
    return found(rewards={"r": fields})


FILES = {
    "good": "number = 1\ndef columns(completions, answer, **kwargs): ...\ndef one(a): ...\n"
    "def f(a, b): return [1.0] * len(b)\n",
    "raises": "1 / 0",
    "leaves": "raise SystemExit(3)",
}
