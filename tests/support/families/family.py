"""A family of reward models: a twin with random weights, Decant's settings for it, and its card's way of scoring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Message = dict[str, str]
Chat = Sequence[Message]

ENGINE: Json = {"dtype": "float32", "max_model_len": 256, "kv_cache_memory_bytes": 2**26, "enforce_eager": True}

ANSWERS = ["A fox jumps.\nHow much wood?\nA good dog is short, kind and right.", "none", " Right:\n a quick dog. "]
CHATS: tuple[Chat, ...] = (
    [{"role": "user", "content": "How much wood would a woodchuck chuck?"}],
    [
        {"role": "user", "content": "The quick brown fox"},
        {"role": "assistant", "content": " jumps over the lazy dog."},
        {"role": "user", "content": "A good answer?"},
    ],
)
TEXTS = ("How much wood would", " a woodchuck chuck?")


@dataclass(frozen=True)
class Family:
    """A family by its row in docs/reward-models.md.

    Args:
        name: The reward's name in the page's settings.
        make: Saves a twin under a folder.
        score: The reward of a whole conversation, its last message the answer, as the card computes it.
        settings: Decant's settings of the reward, without the model and how its engine runs.
        engine: The engine arguments that belong to the settings.
    """

    name: str
    make: Callable[[Path], None]
    score: Callable[[Path, Chat], float]
    settings: Json
    engine: Json = field(default_factory=dict)


def answered(chat: Chat, answer: str) -> list[Message]:
    """Return the conversation with the answer as its last message."""
    return [*chat, {"role": "assistant", "content": answer}]
