"""Segments up to an entropy, as many engine requests as it takes: their law is that of drawing token by token.

The engine here is the toy's table with the real arithmetic on logits, enumerated along every path. The two signals are
words that the table draws like any other, so that most rows collide.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from decoders.core import Candidate, Finish, Prompt, Rng, Sampling, TokenLogprob, Tokens
from decoders.policy import EntropyStop
from decoders.testing import EOS, EnumeratingRng, ToyPolicy
from server.engines.entropy.request_args import EntropyArgs, Signals
from server.engines.entropy.segments import Segments
from server.engines.entropy.stop_logits import EntropyRow, apply_entropy_stops

EXACT = 1e-9
ENTROPIES = [0.0, 1.3, 1.325, 1.35, 9.0]


@dataclass
class TableEngine:
    """vLLM's part: draws from rows of logits until a stop token or the last one; a seed is a choice of the `rng`."""

    rng: Rng
    policy: ToyPolicy = field(default_factory=lambda: ToyPolicy(vocabulary=4, longest=4))
    requests: int = 0

    async def draw(
        self,
        prompt: Prompt,
        n: int,
        sampling: Sampling,
        seed: int | None,  # noqa: ARG002
        asked: EntropyArgs | None,
        pieces: bool,
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        self.requests += 1
        for i in reversed(range(n)):
            drawn: Tokens = ()
            finish: Finish | None = None
            while finish is None:
                token = self._next(prompt.tokens + drawn, len(drawn), sampling, asked)
                drawn += (token,)
                stops = {*sampling.stop_token_ids, EOS} | (
                    {asked.signals.entropy, asked.signals.collision} if asked else set()
                )
                finish = "stop" if token in stops else "length" if len(drawn) == sampling.max_tokens else None
                stop = token if finish == "stop" and token != EOS else None
                if pieces:
                    yield i, Candidate((token,), "", finish, stop, logprobs=(TokenLogprob(token, "", 0.0),))
            if not pieces:
                logprobs = tuple(TokenLogprob(t, "", 0.0) for t in drawn)
                yield i, Candidate(drawn, "", finish, stop, logprobs=logprobs)

    def _next(self, prefix: Tokens, count: int, sampling: Sampling, asked: EntropyArgs | None) -> int:
        logits = torch.tensor([self.policy.logprobs((), prefix)], dtype=torch.float64)
        for token, value in sampling.logit_bias.items():
            logits[0, token] += value
        if asked is not None:
            row = EntropyRow(asked, sampling.temperature, dict(sampling.logit_bias), [EOS, *sampling.stop_token_ids])
            apply_entropy_stops(logits, [0], [row], [count])
        elif count < sampling.min_tokens:
            logits[0, [EOS, *sampling.stop_token_ids]] = -torch.inf
        return self.rng.draw((logits[0] / sampling.temperature).tolist())


def segments(engine: TableEngine, sampling: Sampling, entropy: float, least: int, taken: Signals) -> Segments:
    return Segments(engine.draw, Prompt((), ""), sampling, EntropyStop(entropy, least), taken)


def by_definition(sampling: Sampling, entropy: float, least: int) -> dict[tuple[Tokens, str], float]:
    """The law of a segment and how it ended, token by token from the table."""
    policy = TableEngine(EnumeratingRng()).policy
    out: defaultdict[tuple[Tokens, str], float] = defaultdict(float)
    todo: list[tuple[Tokens, float]] = [((), 1.0)]
    ends = {EOS, *sampling.stop_token_ids}
    while todo:
        z, p = todo.pop()
        logs = policy.logprobs((), z)
        if z and z[-1] in ends:
            out[z, "stop"] += p
            continue
        h = -math.fsum(math.exp(v) * v for v in logs if v > -math.inf)
        if len(z) == sampling.max_tokens or (len(z) >= least and h >= entropy):
            out[z, "length"] += p
            continue
        scores = [v + sampling.logit_bias.get(t, 0.0) for t, v in enumerate(logs)]
        if len(z) < sampling.min_tokens:
            scores = [-math.inf if t in ends else v for t, v in enumerate(scores)]
        weights = [math.exp(v / sampling.temperature) for v in scores]
        todo += [((*z, t), p * w / math.fsum(weights)) for t, w in enumerate(weights) if w > 0]
    return dict(out)


async def law(
    sampling: Sampling, entropy: float, least: int, taken: Signals, *, pieces: bool
) -> dict[tuple[Tokens, str], float]:
    out: defaultdict[tuple[Tokens, str], float] = defaultdict(float)
    todo: list[tuple[int, ...]] = [()]
    while todo:
        rng = EnumeratingRng(todo.pop())
        made = segments(TableEngine(rng), sampling, entropy, least, taken)
        if pieces:
            parts = [piece async for piece in made.pieces(rng)]
        else:
            parts = [segment async for _, segment in made.sample(1, rng)]
        assert [part.finish is None for part in parts] == [True] * (len(parts) - 1) + [False]
        drawn = tuple(t for part in parts for t in part.tokens)
        assert drawn == tuple(entry.token for part in parts for entry in part.logprobs or ())
        stop = drawn[-1] if drawn and drawn[-1] in sampling.stop_token_ids else None
        assert [part.stop for part in parts] == [None] * (len(parts) - 1) + [stop]
        out[drawn, str(parts[-1].finish)] += rng.probability
        todo += rng.passed_by
    return dict(out)


CASES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"max_tokens": 3},
    {"max_tokens": 1},
    {"min_tokens": 2},
    {"stop_token_ids": (1,), "min_tokens": 1},
    {"logit_bias": {1: 1.5, 2: -2.0}, "temperature": 1.7},
]


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("more", CASES, ids=str)
def test_their_law(more: dict[str, Any], entropy: float, least: int, pieces: bool) -> None:
    sampling = Sampling(**more)
    want = by_definition(sampling, entropy, least)
    have = asyncio.run(law(sampling, entropy, least, Signals(2, 3), pieces=pieces))
    assert have == pytest.approx(want, abs=EXACT)


def test_the_thresholds_here_cut_some_segments_and_not_others() -> None:
    ends = [frozenset(by_definition(Sampling(), entropy, 1)) for entropy in ENTROPIES]
    assert len(set(ends)) == len(ENTROPIES)


@dataclass(frozen=True)
class Padded(ToyPolicy):
    """With two further logits that stand for no word."""

    def logprobs(self, prompt: Tokens, prefix: Tokens) -> list[float]:
        return [*super().logprobs(prompt, prefix), -math.inf, -math.inf]


@pytest.mark.parametrize(("taken", "collide"), [(Signals(4, 5), False), (Signals(2, 3), True)])
def test_several_are_one_request_unless_they_collide(taken: Signals, collide: bool) -> None:
    async def run() -> TableEngine:
        engine = TableEngine(EnumeratingRng(), Padded(vocabulary=4, longest=4))
        drawn = segments(engine, Sampling(), 0.95, 1, taken).sample(5, engine.rng)
        assert sorted([i async for i, _ in drawn]) == [0, 1, 2, 3, 4]
        return engine

    requests = asyncio.run(run()).requests
    assert requests > 5 if collide else requests == 1
