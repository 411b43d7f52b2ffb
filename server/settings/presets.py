"""Presets: strategies with their parameters, under names that clients use as a model's.

The shipped ones are served where nothing else is set, each of them if the loaded models have what it needs.
"""

import re
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")

SHIPPED: dict[str, dict[str, Any]] = {
    "best-of-4": {"strategy": "best_of_n", "n": 4},
    "best-of-16": {"strategy": "best_of_n", "n": 16},
    "majority-16": {
        "strategy": "best_of_n",
        "n": 16,
        "select": {"by": "vote", "answer": r"(?i)(?:\\boxed\{|####\s*|answer(?: is)?:?\s*)\$?(-?[\w./-]*\w)"},
    },
    "beam-search": {
        "strategy": "controlled",
        "candidates": 4,
        "beams": 4,
        "block_tokens": 256,
        "block_stop": ["\n\n"],
    },
    # Diverse verifier tree search: trees that are searched greedily, each by itself, and the best of their answers.
    "dvts": {
        "strategy": "best_of_n",
        "n": 4,
        "proposal": {"strategy": "controlled", "candidates": 4, "block_tokens": 256, "block_stop": ["\n\n"]},
    },
    "particles-8": {"strategy": "particles", "particles": 8},
}
