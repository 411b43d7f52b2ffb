"""A server of the scripted policy, whose reasoning and calls are parsed."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.engine import ENGINE, Tiny
from tests.support.forked import decant
from tests.support.scripted import make_scripted

REWARDS = "tests.support.scripted_rewards"


@pytest.fixture(scope="package")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    policy = make_scripted(tmp_path_factory.mktemp("scripted"))
    settings: dict[str, Any] = {
        "policy": {
            "model": str(policy),
            "name": "scripted",
            "engine": {**ENGINE, "max_num_seqs": 32},
            "tool_call_parser": "hermes",
            "reasoning_parser": "qwen3",
        },
        "guides": {"likely": {"kind": "arm", "model": str(policy)}},
        "rewards": {
            "default": {"kind": "function", "function": f"{REWARDS}:calls"},
            "length": {"kind": "function", "function": f"{REWARDS}:length"},
            "answer": {"kind": "function", "function": f"{REWARDS}:thoughts"},
            "all": {"kind": "function", "function": f"{REWARDS}:thoughts", "reward_input": "all"},
        },
    }
    with decant(settings) as url, httpx.Client(base_url=url, timeout=300) as client:
        yield Tiny(client, {"policy": policy})
