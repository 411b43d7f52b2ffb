"""The report of best-of-N, above all the divergence and its estimator, and the requests that it refuses."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from decoders import BestOfN
from decoders.best_of_n import BestOfNInfo
from decoders.core import Sampling, Tokens
from decoders.errors import InvalidRequest, UnknownReward
from decoders.events import Result
from decoders.maths.logmath import best_of_n_kl, ranked_kl
from decoders.models import Models, Reward
from decoders.parts.selection import Argmin, Pessimistic, Softmax
from decoders.testing import EOS, PROMPT, ToyBrevity, ToyPolicy, ToyReward, bind, done, every_path
from evaluation.frontiers.replay import FixedCalibration
from tests.support import laws

POLICY = ToyPolicy(vocabulary=3, longest=3)
MODELS = Models(POLICY, {"default": ToyReward(), "brevity": ToyBrevity()})
PI = POLICY.completions()
BOTH = {"default": 1.0, "brevity": 0.3}
EXACT = 1e-12


def worth(tokens: Tokens) -> float:
    return ToyReward().of(tokens)


def reported(decoder: BestOfN, sampling: Sampling, rank: int = 1) -> list[tuple[Result, str, float, list[float]]]:
    """Return, for each way a run can end, the result, its divergence with the estimator's name, and all totals."""
    ends = asyncio.run(every_path(bind(decoder, MODELS, sampling)))
    out = []
    for _, end in ends:
        result = done(end).results[rank - 1]
        assert result.kl is not None
        out.append((result, result.kl.estimator, result.kl.nats, [s.total for s in done(end).candidates]))
    return out


@pytest.mark.parametrize("n", [1, 2])
def test_atomic_estimator_uses_the_answers_own_probability(n: int) -> None:
    for decoder in (BestOfN(n=n, return_kl=True), BestOfN(n=n, select=Argmin(), return_kl=True)):
        for result, estimator, nats, _ in reported(decoder, Sampling(logprobs=0)):
            assert estimator == "atomic"
            assert nats == pytest.approx(laws.atomic(n, PI[result.candidate.tokens]), abs=EXACT)


def test_poisson_reports_for_the_number_it_drew() -> None:
    for _, end in asyncio.run(every_path(bind(BestOfN(n=5, poisson=True, return_kl=True), MODELS), given=(1,))):
        (result,) = done(end).results
        assert result.diagnostics(BestOfNInfo).draws == 2
        assert result.kl is not None
        assert result.kl.nats == pytest.approx(laws.atomic(2, PI[result.candidate.tokens]), abs=EXACT)


@pytest.mark.parametrize("sampling", [Sampling(logprobs=0, temperature=0.5), Sampling(logprobs=0, top_k=2)])
def test_a_changed_policy_law_falls_back_on_order_statistics(sampling: Sampling) -> None:
    for _, estimator, nats, _ in reported(BestOfN(n=3, return_kl=True), sampling):
        assert estimator == "order_statistic_bound"
        assert nats == pytest.approx(best_of_n_kl(3), abs=EXACT)


def test_stopping_falls_back_on_order_statistics() -> None:
    for _, estimator, nats, _ in reported(BestOfN(n=3, batch=1, stop_at=0.0, return_kl=True), Sampling(logprobs=0)):
        assert estimator == "order_statistic_bound"
        assert nats == pytest.approx(best_of_n_kl(3), abs=EXACT)


def test_further_results_have_the_divergence_of_their_rank() -> None:
    for _, estimator, nats, _ in reported(BestOfN(n=3, return_kl=True), Sampling(n=2, logprobs=0), rank=2):
        assert estimator == "order_statistic_bound"
        assert nats == pytest.approx(ranked_kl(3, 2), abs=EXACT)


def test_other_rules_report_the_divergence_of_the_choice() -> None:
    weigh = {"softmax": laws.boltzmann(0.5), "pessimistic": laws.pessimistic(0.5)}
    for select in (Softmax(beta=0.5), Pessimistic(beta=0.5)):
        for _, estimator, nats, totals in reported(BestOfN(n=3, select=select, return_kl=True), Sampling()):
            weights = weigh[select.by](totals)
            choice = dict(enumerate(w / math.fsum(weights) for w in weights))
            assert estimator == "selection_bound"
            assert nats == pytest.approx(laws.kl(choice, dict.fromkeys(range(3), 1 / 3)), abs=1e-9)


@pytest.mark.parametrize(
    "decoder",
    [
        pytest.param(BestOfN(n=3, return_kl=True), id="argmax"),
        pytest.param(BestOfN(n=3, return_kl=True, select=Argmin()), id="argmin"),
        pytest.param(BestOfN(n=3, select=Softmax(beta=0.5)), id="softmax"),
        pytest.param(BestOfN(n=3, select=Pessimistic(beta=0.5)), id="pessimistic"),
        pytest.param(BestOfN(n=3, batch=2, stop_at=-5.0), id="one batch"),
        pytest.param(BestOfN(n=3, batch=2, stop_at=0.0), id="stopped"),
        pytest.param(BestOfN(n=3, batch=2, stop_at=0.0, select=Softmax(beta=0.5)), id="stopped softmax"),
        pytest.param(BestOfN(n=3, reward=BOTH, calibrated=True, rollouts="candidates"), id="against each other"),
        pytest.param(BestOfN(n=2, reward=BOTH, calibrated=True, rollouts=1), id="against a rollout"),
    ],
)
@pytest.mark.parametrize("results", [1, 2])
def test_the_reported_divergence_bounds_the_true_one_in_mean(decoder: BestOfN, results: int) -> None:
    ends = asyncio.run(every_path(bind(decoder, MODELS, Sampling(n=results))))
    for i in range(results):
        law: dict[Tokens, float] = dict.fromkeys(PI, 0.0)
        nats = 0.0
        for p, end in ends:
            result = done(end).results[i]
            assert result.kl is not None
            law[result.candidate.tokens] += p
            nats += p * result.kl.nats
        assert nats >= laws.kl(law, PI) - EXACT


def test_second_of_a_stopped_search_is_not_bounded_by_its_rank() -> None:
    """After two draws the second result is the worse of two: further from the policy than the middle of three."""
    for _, estimator, nats, totals in reported(BestOfN(n=3, batch=2, stop_at=-5.0), Sampling(n=2), rank=2):
        assert len(totals) == 2
        assert estimator == "selection_bound"
        assert nats >= best_of_n_kl(2) > ranked_kl(3, 2)


def test_the_end_tells_what_was_chosen_from_what() -> None:
    decoder = BestOfN(n=2, reward=BOTH, calibrated=True, rollouts=1, batch=1)
    for _, end in asyncio.run(every_path(bind(decoder, MODELS, Sampling(n=2, max_tokens=2)))):
        last = done(end)
        assert sorted(last.chosen) == [0, 1]
        tokens = [s.candidate.tokens for s in last.candidates]
        rewards = {"default": [worth(y) for y in tokens], "brevity": [-float(sum(t != EOS for t in y)) for y in tokens]}
        for i, scored in zip(last.chosen, last.results, strict=True):
            assert scored.candidate == last.candidates[i].candidate
            assert scored.rewards == last.candidates[i].rewards == {name: rewards[name][i] for name in BOTH}
            assert scored.calibrated == last.candidates[i].calibrated
            assert scored.mean_rewards == pytest.approx({name: sum(v) / 2 for name, v in rewards.items()})
            assert scored.diagnostics(BestOfNInfo).draws == 2
        for scored_candidate in last.candidates:
            quantiles = scored_candidate.calibrated
            assert quantiles is not None
            assert set(quantiles.values()) <= {0.0, 0.5, 1.0}
            assert scored_candidate.total == pytest.approx(
                sum(w * (quantiles[name] or 0.0) for name, w in BOTH.items())
            )
        assert last.cost.candidates == 3
        assert last.cost.generated_tokens > sum(map(len, tokens))
        assert last.cost.scored_tokens == 2 * last.cost.generated_tokens
        assert set(last.cost.seconds) == {"generate", "score", "select"}


@pytest.mark.parametrize(
    ("decoder", "n", "field"),
    [
        (BestOfN(n=2), 3, "sampling.n"),
        (BestOfN(n=4, poisson=True), 2, "sampling.n"),
        (BestOfN(calibrated=True, rollouts="candidates", stop_at=0.5), 1, "strategy.rollouts"),
        (BestOfN(select=Argmin(), stop_at=0.5), 1, "strategy.stop_at"),
        (BestOfN(reward="absent"), 1, "strategy.reward"),
        (BestOfN(reward={"default": 1.0, "absent": 1.0}), 1, "strategy.reward"),
    ],
)
def test_check_refuses_and_names_the_field(decoder: BestOfN, n: int, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decoder.check(MODELS, Sampling(n=n))
    assert refused.value.field == field


def test_check_refuses_many_candidates_at_temperature_zero() -> None:
    BestOfN(n=1).check(MODELS, Sampling(temperature=0))
    with pytest.raises(InvalidRequest) as refused:
        BestOfN(n=2).check(MODELS, Sampling(temperature=0))
    assert refused.value.field == "sampling.temperature"


def test_check_wants_one_reward_that_is_meant() -> None:
    a, b = ToyReward(), ToyBrevity()
    BestOfN().check(Models(POLICY, {"a": a}), Sampling())
    BestOfN().check(Models(POLICY, {"a": a, "default": b}), Sampling())
    ambiguous: list[dict[str, Reward]] = [{}, {"a": a, "b": b}]
    for rewards in ambiguous:
        with pytest.raises(InvalidRequest, match="Name a reward"):
            BestOfN().check(Models(POLICY, rewards), Sampling())
    with pytest.raises(UnknownReward, match="Loaded rewards: a, b"):
        BestOfN(reward="c").check(Models(POLICY, {"a": a, "b": b}), Sampling())


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 0},
        {"n": 257},
        {"batch": 0},
        {"rollouts": -1},
        {"rollouts": 1025},
        {"stop_at": math.nan},
        {"reward": {}},
        {"reward": {"default": math.inf}},
        {"select": {"by": "vote"}},
        {"select": {"by": "softmax", "beta": 0}},
        {"select": {"by": "pessimistic", "beta": math.inf}},
        {"select": {"by": "argmax", "beta": 1.0}},
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BestOfN.model_validate(fields)


def test_sequences_in_the_engine() -> None:
    async def ask(decoder: BestOfN, models: Models = MODELS) -> int:
        return await decoder.max_sequences(PROMPT, models, Sampling())

    async def test() -> None:
        assert await ask(BestOfN(n=6)) == 6
        assert await ask(BestOfN(n=6, batch=3)) == 3
        assert await ask(BestOfN(n=6, stop_at=1.0)) == 4
        assert await ask(BestOfN(n=2, stop_at=1.0)) == 2
        assert await ask(BestOfN(n=6, rollouts=10)) == 6
        assert await ask(BestOfN(n=6, calibrated=True, rollouts="candidates")) == 6
        calibrated = BestOfN(n=6, reward="default", calibrated=True, rollouts=10)
        assert await ask(calibrated) == 16
        cold, warm = (replace(MODELS, calibration=FixedCalibration(kept)) for kept in ([], [0.0] * 10))
        assert await ask(calibrated, cold) == 16
        assert await ask(calibrated, warm) == 6
        assert await ask(calibrated.model_copy(update={"on_demand": False}), cold) == 6

    asyncio.run(test())
