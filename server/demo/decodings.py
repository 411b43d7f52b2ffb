"""The decodings that `decant demo` requests for each prompt, and the figures of one answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import httpx

from server.demo.prompts import DemoPrompt

MAX_TOKENS = 16  # about what a line of the table shows
REWARD = {"default": 1, "tone": 0, "brevity": 0}  # the last two are only reported
SOFTMAX = {"by": "softmax", "beta": 0.5}
CALIBRATED = {"strategy": "rejection", "calibrated": True, "rollouts": 32, "batch": 4}


@dataclass(frozen=True, eq=False)
class Decoding:
    """A request's `decoding`, for `n` answers; `shown` prints the text of the first one."""

    name: str
    body: Mapping[str, Any]
    n: int = 1
    temperature: float = 1.0
    shown: bool = False


def _guided(name: str, n: int = 4, **guides: float) -> Decoding:
    return Decoding(name, {"strategy": "reward_guided", "guides": guides}, n, shown=guides == {"positive": 1.0})


DECODINGS = (
    Decoding("sample", {"strategy": "sample"}, 4, shown=True),
    Decoding("sample, temperature 0.5", {"strategy": "sample"}, 4, temperature=0.5),
    Decoding("best of 4", {"strategy": "best_of_n", "n": 4}),
    Decoding("best of 16", {"strategy": "best_of_n", "n": 16}, shown=True),
    Decoding("softmax of 4", {"strategy": "best_of_n", "n": 4, "select": SOFTMAX}),
    Decoding("softmax of 16", {"strategy": "best_of_n", "n": 16, "select": SOFTMAX}),
    _guided("guided, positive 0.5", positive=0.5),
    _guided("guided, positive 1", positive=1.0),
    _guided("guided, positive 2", positive=2.0),
    _guided("positive 0.75, brief 0.25", positive=0.75, brief=0.25),
    _guided("positive 0.5, brief 0.5", positive=0.5, brief=0.5),
    _guided("positive 0.25, brief 0.75", positive=0.25, brief=0.75),
    Decoding("best of 4, positive 1", {"strategy": "best_of_n", "n": 4, "guides": {"positive": 1.0}}, shown=True),
    Decoding("best of 4 blocks of 4", {"strategy": "controlled", "candidates": 4, "block_tokens": 4}, shown=True),
    Decoding("16, half given up at 4", {"strategy": "speculative_rejection", "n": 16, "checkpoints": [4]}),
    Decoding("8 particles", {"strategy": "particles", "particles": 8, "block_tokens": 4, "beta": 0.5}),
    Decoding("cascade", {"strategy": "cascade", "accept_threshold": 3.0, "batch": 4, "max_tries": 8}),
    Decoding("rejection, calibrated", {**CALIBRATED, "beta": 0.25}),
    Decoding(
        "best of 4 over rejection",
        {"strategy": "best_of_n", "n": 4, "proposal": {**CALIBRATED, "reward": "default", "beta": 0.5}},
        shown=True,
    ),
)


@dataclass(frozen=True)
class Figures:
    """Means over the answers: rewards by name, KL in nats (None if none is known), tokens of all candidates."""

    rewards: Mapping[str, float]
    kl: float | None
    tokens: float
    seconds: float
    text: str = ""


def ask(client: httpx.Client, prompt: DemoPrompt, decoding: Decoding) -> Figures:
    """Request one decoding of one prompt over HTTP. Raises SystemExit with the server's message if it fails."""
    body: dict[str, Any] = {
        "max_tokens": MAX_TOKENS,
        "seed": 7,
        "n": decoding.n,
        "temperature": decoding.temperature,
        "decoding": {"reward": REWARD, **decoding.body, "return_kl": True},
    }
    started = time.perf_counter()
    if prompt.chat:
        body["messages"] = [{"role": "user", "content": prompt.text}]
        answer = client.post("/v1/chat/completions", json=body)
    else:
        answer = client.post("/v1/completions", json={**body, "prompt": prompt.text})
    seconds = time.perf_counter() - started
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"The server answered {answer.status_code}: {answer.text}")
    content = answer.json()
    choice, results = content["choices"][0], content["decoding"]["results"]
    known = all(result["kl"] and result["kl"]["reference"] == "policy" for result in results)
    return Figures(
        rewards={name: fmean(result["rewards"][name] for result in results) for name in REWARD},
        kl=fmean(result["kl"]["nats"] for result in results) if known else None,
        tokens=content["usage"]["completion_tokens"],
        seconds=seconds,
        text=choice["message"]["content"] if prompt.chat else choice["text"],
    )


def mean(rows: list[Figures]) -> Figures:
    """Return the means over prompts."""
    kls = [row.kl for row in rows if row.kl is not None]
    return Figures(
        rewards={name: fmean(row.rewards[name] for row in rows) for name in REWARD},
        kl=fmean(kls) if kls else None,
        tokens=fmean(row.tokens for row in rows),
        seconds=fmean(row.seconds for row in rows),
    )
