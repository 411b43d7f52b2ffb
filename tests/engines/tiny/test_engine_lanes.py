"""A wide request that is drawn in parts, for narrow ones are there, on vLLM: its answer is that of one draw."""

import time
from typing import Any

import pytest

from server.runtime.admission import LINGER
from tests.support.engine import Tiny

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.mark.parametrize("stop", [None, ["q"]])
def test_a_seeded_answer_does_not_depend_on_the_parts_that_it_is_drawn_in(tiny: Tiny, stop: list[str] | None) -> None:
    body: dict[str, Any] = {"prompt": "The quick brown fox", "max_tokens": 12, "seed": 5, "stop": stop}
    wide: dict[str, Any] = {**body, "decoding": {"strategy": "best_of_n", "n": 64, "return_candidates": True}}
    tiny.post(**body)
    begun = time.monotonic()
    parted = tiny.post(**wide)
    narrow = tiny.post(**{**body, "decoding": {**wide["decoding"], "n": 8}})
    time.sleep(max(0.0, begun + 2 * LINGER + 0.1 - time.monotonic()))  # the narrow requests are gone for long enough
    whole = tiny.post(**wide)
    assert texts(parted) == texts(whole)
    assert texts(narrow) == texts(whole)[:8]
    assert len(set(texts(whole))) > 32
    assert parted["choices"] == whole["choices"]


def texts(answer: dict[str, Any]) -> list[str]:
    return [candidate["text"] for candidate in answer["decoding"]["candidates"]]
