"""What the client scripts share: whom they ask and for what, and the server's own word on how it answered."""

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import BaseModel

URL, MODEL, CHECKPOINT = sys.argv[1:4]
"""The server's address with /v1, the policy's name, and the folder of its checkpoint."""
DECODING = {"strategy": "best_of_n", "n": 4}
PRESET = f"{MODEL}:best-of-4"
HEADERS = {"X-Decant-Preset": "best-of-4"}
QUESTION = "How was the film?"


class Review(BaseModel):
    """A review of a film, in a form that random weights cannot make long."""

    verdict: Literal["good", "bad"]
    again: bool


def assert_best_of_4(answer: str) -> None:
    """Check that the answer with this id is the best of four, by the report that the server keeps."""
    with urllib.request.urlopen(f"{URL}/reports/{answer}") as response:
        report: dict[str, Any] = json.load(response)
    assert report["decoding"]["strategy"] == "best_of_n", report
    assert report["decoding"]["results"][0]["draws"] == 4, report


def logprob(prompt: str, completion: str) -> float:
    """Return the policy's log-probability of a completion, in nats, as `/v1/rewards` has it."""
    fields = {"prompt": prompt, "completions": [completion], "policy_logprob": True}
    sent = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{URL}/rewards", json.dumps(fields).encode(), sent)
    with urllib.request.urlopen(request) as response:
        [row] = json.load(response)["data"]
    return float(row["policy_logprob"])


def drawn() -> int:
    """Return how many candidates the server has drawn for best-of-N."""
    with urllib.request.urlopen(f"{URL.removesuffix('/v1')}/metrics") as response:
        lines = response.read().decode().splitlines()
    name = 'decant_candidates_total{strategy="best_of_n"}'
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(name))


@contextmanager
def each_best_of_4(requests: int) -> Iterator[None]:
    """Check that the block sends so many requests for the best of four, for clients that tell no answer's id."""
    expected = drawn() + 4 * requests
    yield
    deadline = time.monotonic() + 5  # an answer is counted a moment after it is sent
    while drawn() < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert drawn() == expected, (drawn(), expected)
