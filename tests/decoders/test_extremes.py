"""Rewards at the ends of the range of doubles, the smallest beta: each strategy answers, or fails by a typed error."""

import asyncio
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from decoders import Strategy
from decoders.base import Decoder
from decoders.core import EMPTY, Candidate, Prompt, Sampling
from decoders.errors import DecantError
from decoders.events import Done, ScoredCandidate
from decoders.maths.logmath import mean, normalise, total
from decoders.maths.resampling import systematic
from decoders.models import Models
from decoders.parts.objective import Objective
from decoders.parts.selection import Argmax, Argmin, Pessimistic, Softmax
from decoders.parts.vote import Vote
from decoders.rng import SeededRng
from decoders.testing import EnumeratingRng, ToyGuide, ToyPolicy
from tests.support.fakes import world
from tests.support.replies import said
from tests.support.serving import Api, ok, refused, serving

MOST, LEAST = sys.float_info.max, 5e-324
EXTREMES = (0.0, -0.0, 1.0, -1.0, LEAST, -LEAST, 1e-300, 1e300, -1e300, 1e308, -1e308, MOST, -MOST)
numbers = st.sampled_from(EXTREMES) | st.floats(allow_nan=False, allow_infinity=False)
rewards = st.lists(numbers, min_size=1, max_size=7)
betas = st.sampled_from([1e-12, 1e-6, 1.0, 1e6]) | st.floats(1e-12, 1e6)
unhurried = settings(max_examples=150, deadline=None)


@dataclass(frozen=True)
class Listed:
    """A reward from a list, by the tokens of the completion."""

    values: Sequence[float]

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [self.values[hash(c.tokens) % len(self.values)] for c in completions]


def softmaxes(beta: float) -> list[dict[str, Any]]:
    return [
        {"by": "argmax"},
        {"by": "argmin"},
        {"by": "softmax", "beta": beta},
        {"by": "pessimistic", "beta": beta},
        {"by": "vote", "answer": "bad|odd"},
        {"by": "vote", "answer": "bad|odd", "beta": beta},
    ]


def searches(beta: float, r_max: float, threshold: float) -> list[dict[str, Any]]:
    """Return every strategy that chooses by reward, with each option that divides by beta."""
    return [
        *({"strategy": "best_of_n", "n": 4, "select": select} for select in softmaxes(beta)),
        {"strategy": "best_of_n", "n": 4, "stop_at": threshold},
        {"strategy": "best_of_n", "n": 4, "poisson": True},
        {"strategy": "best_of_n", "n": 2, "proposal": {"strategy": "particles", "particles": 3, "beta": beta}},
        {"strategy": "controlled", "block_tokens": 2},
        {"strategy": "controlled", "block_tokens": 2, "select": {"by": "softmax", "beta": beta}},
        {"strategy": "rejection", "r_max": r_max, "beta": beta, "max_draws": 8, "batch": 4},
        {"strategy": "particles", "particles": 4, "block_tokens": 1, "beta": beta, "ess_threshold": 1.0},
        {"strategy": "particles", "particles": 4, "block_tokens": 2, "beta": beta},
        {"strategy": "speculative_rejection", "n": 4, "checkpoints": [1, 2]},
        {"strategy": "cascade", "accept_threshold": threshold, "accept_start": -MOST, "beta": beta, "max_tries": 3},
    ]


async def end(decoder: Decoder, models: Models, sampling: Sampling, seed: int) -> Done | None:
    """Return the end of a run; None for a typed failure."""
    last = None
    try:
        async for event in decoder.decode(Prompt((1,), "good"), models, sampling, SeededRng(seed)):
            last = event
    except DecantError:
        return None
    assert isinstance(last, Done)
    return last


STRATEGY: TypeAdapter[Decoder] = TypeAdapter(Strategy)
POLICY = ToyPolicy(loaded={"kind": ToyGuide()})


@unhurried
@given(rewards, rewards, betas, numbers, numbers, st.integers(0, 9), st.sampled_from([1.0, 1e6, -1e6, 1e-300]))
def test_every_search_ends_in_an_answer_or_a_typed_failure(
    values: list[float], others: list[float], beta: float, r_max: float, threshold: float, seed: int, weight: float
) -> None:
    models = Models(POLICY, {"default": Listed(values), "other": Listed(others)})
    for fields in searches(beta, r_max, threshold):
        for reward in ("default", {"default": weight, "other": 1.0}):
            decoder = STRATEGY.validate_python({**fields, "reward": reward, "return_kl": True})
            done = asyncio.run(end(decoder, models, Sampling(n=2 if fields.get("poisson") is None else 1), seed))
            for result in () if done is None else done.results:
                assert all(r is not None and math.isfinite(r) for r in result.rewards.values())
                assert all(map(math.isfinite, (result.mean_rewards or {}).values()))
                assert result.kl is None or math.isfinite(result.kl.nats), fields
                log_z, vote = (getattr(result.info, name, None) for name in ("log_z", "vote"))
                assert log_z is None or math.isfinite(log_z), fields
                assert vote is None or 0 <= vote.share <= 1


@unhurried
@given(rewards, betas, st.floats(-50, 50), st.integers(0, 9), st.sampled_from([1.0, 1e6, 1e-300, LEAST, 0.0]))
def test_so_does_every_calibrated_one(values: list[float], beta: float, t: float, seed: int, weight: float) -> None:
    models = Models(POLICY, {"default": Listed(values), "other": Listed(values[::-1])})
    transforms = ({"kind": "identity"}, {"kind": "log"}, {"kind": "exponential", "t": t})
    for fields in searches(beta, 0.0, 0.5):
        calibrated = {**fields, "calibrated": True, "rollouts": 3, "reward": {"default": weight, "other": 1.0}}
        calibrated.pop("r_max", None)
        for transform in transforms:
            decoder = STRATEGY.validate_python({**calibrated, "transform": transform, "return_kl": True})
            sampling = Sampling()
            try:
                decoder.check(models, sampling)
            except DecantError:
                continue
            done = asyncio.run(end(decoder, models, sampling, seed))
            for result in () if done is None else done.results:
                assert result.kl is None or math.isfinite(result.kl.nats), (fields, transform)
                log_z = getattr(result.info, "log_z", None)
                assert log_z is None or math.isfinite(log_z), (fields, transform)


@unhurried
@given(rewards, betas)
def test_choices_are_probabilities_and_the_best_is_never_impossible(values: list[float], beta: float) -> None:
    texts = said(*[" good", " bad"] * len(values))
    for rule in (Argmax(), Softmax(beta=beta), Pessimistic(beta=beta)):
        p = normalise(rule.log_weights(values))
        assert math.fsum(p) == pytest.approx(1)
        assert p[values.index(max(values))] == max(p)
    assert normalise(Argmin().log_weights(values))[values.index(min(values))] > 0
    vote = Vote(answer="bad|good", beta=beta)
    shares = vote.shares(values, vote.answers(texts[: len(values)]))
    assert math.fsum(shares.values()) == pytest.approx(1)
    assert math.fsum(normalise(vote.log_weights(values, texts[: len(values)]))) == pytest.approx(1)


def test_a_vote_among_candidates_that_a_better_one_without_an_answer_outweighs() -> None:
    """Beside the best candidate, which does not vote, each voter's weight is below the least double."""
    vote = Vote(answer="bad|odd", beta=0.003)
    values, texts = [9.0, -1.0, -1.0, -4.0], said(" good", " bad", " bad", " odd")
    assert vote.shares(values, vote.answers(texts)) == pytest.approx({"bad": 1.0, "odd": 0.0})
    assert normalise(vote.log_weights(values, texts)) == pytest.approx([0.0, 0.5, 0.5, 0.0])
    alike = Vote(answer="bad|odd", beta=1.0)
    e = math.exp(-3)
    assert alike.shares(values, alike.answers(texts)) == pytest.approx({"bad": 2 / (2 + e), "odd": e / (2 + e)})


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([1e308, 1e308], math.nan),
        ([1e308, 1e308, -1e308], 1e308),
        ([MOST, MOST, -MOST, -MOST, 1.0], 1.0),
        ([-MOST, -MOST], math.nan),
        ([MOST], MOST),
        ([0.1] * 10, 1.0),
        ([], 0.0),
    ],
)
def test_a_sum_is_out_of_range_only_if_it_is(values: list[float], want: float) -> None:
    assert total(values) == pytest.approx(want, nan_ok=True)
    objective = Objective({str(i): 1.0 for i in range(len(values))})
    [judged] = objective.judge([ScoredCandidate(EMPTY, {str(i): value for i, value in enumerate(values)})])
    assert judged.total == pytest.approx(want, nan_ok=True)


@unhurried
@given(rewards)
def test_a_mean_lies_between_the_least_and_the_greatest(values: list[float]) -> None:
    found = mean(values)
    slack = max(abs(found) * 1e-15, LEAST)
    assert min(values) - slack <= found <= max(values) + slack or abs(found) == MOST


@pytest.mark.parametrize("weights", [[0.25, 0.75, 0.0], [1 - 2**-53, 2**-53, 0.0], [0.1] * 10 + [0.0], [0.0, 1.0, 0.0]])
def test_resampling_never_brings_back_weight_zero(weights: list[float]) -> None:
    p = [w / math.fsum(weights) for w in weights]
    todo: list[tuple[int, ...]] = [()]
    while todo:
        rng = EnumeratingRng(todo.pop())
        parents = systematic(p, rng)
        assert all(p[parent] > 0 for parent in parents)
        todo += rng.passed_by


@pytest.mark.parametrize("beta", [0.0, -1.0, 1e-320, LEAST, 9.9e-13, 1e7, math.inf, math.nan])
def test_a_beta_that_cannot_work_is_refused(beta: float) -> None:
    bodies = [*searches(1.0, 1.0, 1.0)]
    for body in bodies:
        for place in (body, body.get("select", {}), body.get("proposal", {})):
            if "beta" in place:
                good, place["beta"] = place["beta"], beta
                with pytest.raises(ValidationError):
                    STRATEGY.validate_python(body)
                place["beta"] = good
                STRATEGY.validate_python(body)


def test_t_is_bounded_where_its_exponential_is_a_number() -> None:
    for t in (-700.0, 700.0, 51.0, math.inf, math.nan):
        with pytest.raises(ValidationError):
            STRATEGY.validate_python({"strategy": "best_of_n", "transform": {"kind": "exponential", "t": t}})


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    huge = {"up": Listed([1e308, -1e308, MOST, -MOST]), "down": Listed([MOST, 1e308, 0.0])}
    with serving(world(rewards={**huge, "default": Listed([9.0, -1.0, 0.25])})) as api:
        yield api


@pytest.mark.parametrize("by", softmaxes(0.003), ids=lambda select: "-".join(map(str, select.values())))
def test_over_http_no_seed_fails(api: Api, by: dict[str, Any]) -> None:
    for seed in range(40):
        ok(
            api.post(
                "completions", {"prompt": "good", "seed": seed, "decoding": {"strategy": "best_of_n", "select": by}}
            )
        )


def test_over_http_two_huge_rewards_are_an_answer_or_a_failure_that_says_so(api: Api) -> None:
    for seed in range(20):
        for fields in searches(1e-12, MOST, MOST):
            decoding = {**fields, "reward": {"up": 1.0, "down": 1.0}, "return_kl": True, "return_candidates": True}
            answer = api.post("completions", {"prompt": "good", "seed": seed, "decoding": decoding})
            assert answer.status_code in (200, 502), answer.text
            if answer.status_code == 200:
                json.loads(answer.text, parse_constant=pytest.fail)


def test_over_http_a_beta_too_small_is_named(api: Api) -> None:
    decoding = {"strategy": "best_of_n", "select": {"by": "softmax", "beta": 1e-320}}
    answer = refused(api.post("completions", {"prompt": "good", "decoding": decoding}), 400)
    assert answer["param"] == "decoding.select.beta"
