"""Cascade reward sampling on the exact toy: where segments end, and the law of accepted ones."""

import asyncio
import math
from collections import defaultdict
from typing import Any

import pytest

from decoders import Cascade
from decoders.core import EMPTY, Sampling, Tokens
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.models import Models
from decoders.policy import EntropyStop
from decoders.rng import SeededRng
from decoders.testing import EOS, PROMPT, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, joint_law, law
from tests.support import laws
from tests.support.fakes import giving

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})
MODELS = Models(POLICY, {"default": ToyReward()})
LONGEST = 16


def worth(y: Tokens) -> float:
    return ToyReward().of(y)


def ended(y: Tokens) -> bool:
    return bool(y) and (y[-1] == EOS or len(y) == LONGEST)


def segments(y: Tokens, entropy: float, least: int, most: int, guides: dict[str, float]) -> dict[Tokens, float]:
    """Return F(z | y), token by token from the policy's table; each segment with its prefix."""
    out: defaultdict[Tokens, float] = defaultdict(float)
    todo: list[tuple[Tokens, float]] = [(y, 1.0)]
    while todo:
        z, p = todo.pop()
        drawn = len(z) - len(y)
        logs = POLICY.law((), z, Sampling(guides=guides))
        entropy_here = -math.fsum(math.exp(v) * v for v in logs if v > -math.inf)
        if drawn and (ended(z) or drawn == most or (drawn >= least and entropy_here >= entropy)):
            out[z] += p
            continue
        todo += [((*z, t), p * math.exp(v)) for t, v in enumerate(logs) if v > -math.inf]
    return dict(out)


def by_definition(
    *, entropy: float, at: float, start: float, beta: float, tries: int, least: int = 1, most: int = 64,
    guides: dict[str, float] | None = None,
) -> dict[Tokens, float]:  # fmt: skip
    """Return the law of the cascade, in which the best try is taken where none is accepted."""
    out: defaultdict[Tokens, float] = defaultdict(float)
    todo: list[tuple[Tokens, float]] = [((), 1.0)]
    while todo:
        y, p = todo.pop()
        if ended(y):
            out[y] += p
            continue
        f = segments(y, entropy, least, most, guides or {})
        threshold = {z: start + (at - start) * min(1.0, len(z) / LONGEST) for z in f}
        accept = {z: min(1.0, math.exp((worth(z) - threshold[z]) / beta)) for z in f}
        refused = math.fsum(f[z] * (1 - accept[z]) for z in f)
        accepted_by_then = math.fsum(refused**i for i in range(tries))
        todo += [(z, p * f[z] * accept[z] * accepted_by_then) for z in f]
        # All tries refused: these are independent, each of the law f (1 - a) / refused.
        if refused > 0:
            left = {z: f[z] * (1 - accept[z]) / refused for z in f}
            best = laws.order_statistic(left, {z: worth(z) for z in f}, tries) if len(left) > 1 else left
            todo += [(z, p * refused**tries * q) for z, q in best.items() if q > 0]
    return dict(out)


@pytest.mark.parametrize("entropy", [0.0, 0.95, 99.0])
@pytest.mark.parametrize("tries", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_its_law(entropy: float, tries: int, batch: int) -> None:
    decoder = Cascade(
        entropy_threshold=entropy,
        accept_threshold=1.5,
        accept_start=-0.5,
        beta=0.7,
        max_tries=tries,
        batch=batch,
        min_segment_tokens=1,
    )
    want = by_definition(entropy=entropy, at=1.5, start=-0.5, beta=0.7, tries=tries)
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_segments_have_a_least_and_a_greatest_length() -> None:
    for least, most in ((2, 64), (1, 1), (2, 2)):
        decoder = Cascade(
            entropy_threshold=0.0, accept_threshold=1.0, accept_start=0.0, max_tries=1, min_segment_tokens=least,
            max_segment_tokens=most, beta=0.5,
        )  # fmt: skip
        want = by_definition(entropy=0.0, at=1.0, start=0.0, beta=0.5, tries=1, least=least, most=most)
        assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_it_is_of_the_guided_policy() -> None:
    guides = {"kind": 1.0}
    decoder = Cascade(
        entropy_threshold=0.9,
        accept_threshold=1.0,
        accept_start=0.0,
        beta=0.5,
        max_tries=2,
        batch=1,
        min_segment_tokens=1,
        guides=guides,
    )
    want = by_definition(entropy=0.9, at=1.0, start=0.0, beta=0.5, tries=2, guides=guides)
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_the_threshold_begins_half_way_from_the_empty_answers_reward() -> None:
    """On the toy the empty answer's reward is 0."""
    fields: dict[str, Any] = {
        "entropy_threshold": 0.9,
        "accept_threshold": 1.0,
        "max_tries": 2,
        "min_segment_tokens": 1,
    }
    have = asyncio.run(law(bind(Cascade(**fields), MODELS)))
    assert have == pytest.approx(asyncio.run(law(bind(Cascade(**fields, accept_start=0.5), MODELS))), abs=EXACT)


def test_with_enough_tries_each_segment_is_tilted_exactly() -> None:
    decoder = Cascade(entropy_threshold=99.0, accept_threshold=3.0, accept_start=3.0, beta=2.0, max_tries=400, batch=1)
    pi = POLICY.completions()

    async def frequencies(runs: int) -> dict[Tokens, float]:
        seen: defaultdict[Tokens, float] = defaultdict(float)
        for seed in range(runs):
            async for event in bind(decoder, MODELS)(SeededRng(seed)):
                last = event
            seen[done(last).results[0].candidate.tokens] += 1 / runs  # type: ignore[arg-type]
        return seen

    seen = asyncio.run(frequencies(2000))
    for y, p in laws.tilted(pi, {y: worth(y) for y in pi}, 2.0).items():
        assert abs(seen[y] - p) < 5 * math.sqrt(p * (1 - p) / 2000)


@pytest.mark.parametrize("entropy", [0.0, 0.9, 0.95, 1.0, 99.0])
@pytest.mark.parametrize("guides", [{}, {"kind": 1.0}])
def test_a_cascade_that_accepts_everything_samples_the_policy(entropy: float, guides: dict[str, float]) -> None:
    decoder = Cascade(
        entropy_threshold=entropy,
        accept_threshold=-9.0,
        accept_start=-9.0,
        min_segment_tokens=1,
        batch=1,
        guides=guides,
    )
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(POLICY.completions(guides=guides), abs=EXACT)


def test_several_results_are_independent_runs() -> None:
    models = Models(ToyPolicy(3, 2), MODELS.rewards)
    decoder = Cascade(accept_threshold=1.0, accept_start=0.0, max_tries=2, batch=1)
    alone = asyncio.run(law(bind(decoder, models)))
    for (a, b), p in asyncio.run(joint_law(bind(decoder, models, Sampling(n=2)))).items():
        assert p == pytest.approx(alone[a] * alone[b], abs=EXACT)


def test_it_stays_within_what_it_may_draw() -> None:
    decoder = Cascade(
        entropy_threshold=0.0,
        accept_threshold=9.0,
        accept_start=9.0,
        max_tries=2,
        batch=2,
        min_segment_tokens=1,
        beta=0.1,
    )
    most = decoder.max_cost(Sampling(max_tokens=3), MODELS)
    for _, end in asyncio.run(every_path(bind(decoder, MODELS))):
        assert done(end).cost.candidates <= most.candidates
        assert done(end).cost.generated_tokens <= most.generated_tokens


def test_the_toy_cuts_where_it_is_uncertain() -> None:
    async def extended(entropy_stop: EntropyStop) -> set[Tokens]:
        grown = POLICY.extend(PROMPT, EMPTY, 50, 16, Sampling(), SeededRng(1), entropy_stop=entropy_stop)
        return {whole.tokens async for _, whole, _ in grown}

    everywhere = asyncio.run(extended(EntropyStop(0.0)))
    assert all(len(y) == 1 for y in everywhere)
    nowhere = asyncio.run(extended(EntropyStop(99.0)))
    assert all(y[-1] == EOS for y in nowhere)


def test_without_a_finite_reward_it_fails() -> None:
    models = Models(ToyPolicy(3, 2), {"default": giving(math.nan)})
    for more in ({}, {"accept_start": 0.0}):
        ends = asyncio.run(every_path(bind(Cascade(accept_threshold=1.0, max_tries=2, **more), models)))
        assert all(isinstance(end, NoUsableReward) for _, end in ends)


@pytest.mark.parametrize(
    ("field", "more", "sampling"),
    [
        ("strategy.accept_start", {"accept_start": 2.0}, Sampling()),
        ("sampling.temperature", {}, Sampling(temperature=0.0)),
        ("sampling.repetition_penalty", {}, Sampling(repetition_penalty=1.1)),
    ],
)
def test_what_cannot_be_is_named(field: str, more: dict[str, float], sampling: Sampling) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Cascade(accept_threshold=1.0, **more).check(MODELS, sampling)
    assert raised.value.field == field


class Uncut(ToyPolicy):
    """A policy whose engine cannot end segments."""

    def check_entropy_stop(self, sampling: Sampling) -> None:  # noqa: ARG002
        raise InvalidRequest("it cannot", "strategy.strategy")


def test_it_asks_the_policy_whether_it_can_be() -> None:
    with pytest.raises(InvalidRequest, match="it cannot") as raised:
        Cascade(accept_threshold=1.0).check(Models(Uncut(), MODELS.rewards), Sampling())
    assert raised.value.field == "strategy.strategy"
