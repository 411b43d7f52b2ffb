"""Rewards that do not apply to every completion: left out of that one's sum, and where none applies it is out."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from decoders import STRATEGIES, BestOfN, Rejection
from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import NoUsableReward
from decoders.maths.quantiles import leave_one_out
from decoders.maths.transforms import Exponential, Identity, Log
from decoders.models import Models, Reward
from decoders.rejection import RejectionInfo
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.function_reward import call_in_thread
from server.engines.toy import ToyBrevity, ToyPolicy, ToyReward
from tests.support import laws
from tests.support.enumerate import done, every_path, law, on
from tests.support.fakes import world
from tests.support.serving import PATIENCE, Api, Json, ok, refused, serving

EXACT = 1e-12
POLICY = ToyPolicy(vocabulary=3, longest=3)
PI = POLICY.completions()
HOLE, OTHER = (2, 0), (1, 0)
WEIGHTS = {"default": 1.0, "brevity": 0.5}
WORTH: dict[Tokens, float | None] = {y: None if y == HOLE else ToyReward().of(y) for y in PI}
BREVITY: dict[Tokens, float | None] = {y: -float(sum(t != 0 for t in y)) for y in PI}


class Table:
    """A reward by its values."""

    def __init__(self, values: dict[Tokens, float | None]) -> None:
        self.values = values

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float | None]:  # noqa: ARG002
        return [self.values[c.tokens] for c in completions]


def models(**values: dict[Tokens, float | None]) -> Models:
    return Models(POLICY, {name: Table(table) for name, table in values.items()})


def total(y: Tokens, *tables: dict[Tokens, float | None]) -> float:
    """The weighted sum of what applies."""
    terms = [w * value for w, table in zip(WEIGHTS.values(), tables, strict=True) if (value := table[y]) is not None]
    return math.fsum(terms) if terms else math.nan


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum() -> None:
    have = asyncio.run(law(on(BestOfN(n=2, reward=WEIGHTS), models(default=WORTH, brevity=BREVITY))))
    want = laws.order_statistic(PI, {y: total(y, WORTH, BREVITY) for y in PI}, 2)
    assert have == pytest.approx(want, abs=EXACT)
    scaled = {y: v * 3 if y == HOLE else v for y in PI for v in [total(y, WORTH, BREVITY)]}
    assert have != pytest.approx(laws.order_statistic(PI, scaled, 2), abs=1e-3), "as if the rest were scaled up"


@pytest.mark.parametrize("hole", [None, math.nan])
def test_a_candidate_that_no_reward_applies_to_is_out(hole: float | None) -> None:
    alone = models(default={**WORTH, HOLE: hole})
    both = models(default={**WORTH, HOLE: hole}, brevity={**BREVITY, HOLE: hole})
    for reward, loaded, totals in (
        ("default", alone, WORTH),
        (WEIGHTS, both, {y: total(y, WORTH, {**BREVITY, HOLE: None}) for y in PI}),
    ):
        have = asyncio.run(law(on(BestOfN(n=2, reward=reward), loaded)))
        want = laws.chosen(
            PI, 2, laws.by({y: math.nan if v is None else v for y, v in totals.items()}, laws.without(laws.greatest))
        )
        assert have.pop(()) == pytest.approx(PI[HOLE] ** 2, abs=EXACT)
        assert have == pytest.approx(want, abs=EXACT)


def test_a_reward_that_applies_and_has_no_value_puts_the_candidate_out() -> None:
    have = asyncio.run(
        law(on(BestOfN(n=2, reward=WEIGHTS), models(default={**WORTH, HOLE: math.nan}, brevity=BREVITY)))
    )
    assert HOLE not in have
    assert have[()] == pytest.approx(PI[HOLE] ** 2, abs=EXACT)


@pytest.mark.parametrize("rollouts", [0, 1, 2])
def test_a_calibrated_reward_is_a_quantile_among_the_samples_that_it_applies_to(rollouts: int) -> None:
    tables = {"default": WORTH, "brevity": {**BREVITY, OTHER: None}}

    def totals(ys: tuple[Tokens, ...], zs: tuple[Tokens, ...] | None) -> list[float]:
        sums = []
        for i, y in enumerate(ys):
            terms = []
            for name, weight in WEIGHTS.items():
                own = tables[name][y]
                rivals = [tables[name][z] for z in (ys[:i] + ys[i + 1 :] if zs is None else zs)]
                there = [r for r in rivals if r is not None]
                if own is not None:
                    terms.append(weight * (laws.quantile(own, there) if there else 0.5))
            sums.append(round(math.fsum(terms), 9))
        return sums

    want: defaultdict[Tokens, float] = defaultdict(float)
    for zs, p in laws.pools(PI, rollouts):

        def weigh(ys: tuple[Tokens, ...], zs: tuple[Tokens, ...] = zs) -> Sequence[float]:
            return laws.greatest(totals(ys, zs if rollouts else None))

        for y, q in laws.chosen(PI, 2, weigh).items():
            want[y] += p * q
    decoder = BestOfN(n=2, reward=WEIGHTS, calibrated=True, rollouts=rollouts or "candidates")
    have = asyncio.run(law(on(decoder, models(**tables))))
    assert have == pytest.approx(dict(want), abs=EXACT)


def test_quantiles_of_what_is_not_there_are_not_there() -> None:
    assert leave_one_out([1.0, None, 0.0]) == [1.0, None, 0.0]
    assert leave_one_out([None, 2.0]) == [None, 0.5]


@pytest.mark.parametrize("phi", [Identity(), Exponential(t=1.0), Exponential(t=-1.0), Log()], ids=lambda p: p.kind)
def test_rejection_tilts_by_the_sum_of_what_applies_and_by_no_more_than_its_bound(phi: Any) -> None:
    tiny = ToyPolicy(vocabulary=3, longest=2)
    pi = tiny.completions()
    tables = {"default": {y: WORTH[y] for y in pi}, "brevity": {y: BREVITY[y] for y in pi}}
    loaded = Models(tiny, {name: Table(table) for name, table in tables.items()})
    decoder = Rejection(beta=0.7, calibrated=True, transform=phi, rollouts=1, batch=1, max_draws=1, reward=WEIGHTS)
    bound = 1.5 * phi(1.0)
    want: defaultdict[Tokens, float] = defaultdict(float)
    for z, p in pi.items():
        for y, q in pi.items():
            terms = []
            for name, weight in WEIGHTS.items():
                own, rival = tables[name][y], tables[name][z]
                if own is not None:
                    terms.append(weight * phi(0.5 if rival is None else laws.quantile(own, [rival])))
            score = min(math.fsum(terms), bound)
            want[y] += p * q * math.exp((score - bound) / 0.7)
    have: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in asyncio.run(every_path(on(decoder, loaded))):
        if isinstance(end, NoUsableReward):  # by the logarithm of 0
            continue
        [result] = done(end).results
        if result.diagnostics(RejectionInfo).accepted:
            have[result.candidate.tokens] += p
            assert result.diagnostics(RejectionInfo).log_z is not None
            assert result.diagnostics(RejectionInfo).log_z <= bound / 0.7 + EXACT
    assert dict(have) == pytest.approx({y: v for y, v in want.items() if v > 0}, abs=EXACT)


def test_a_raw_reward_is_tilted_by_what_applies() -> None:
    decoder = Rejection(beta=1.0, r_max=3.0, batch=1, max_draws=1, reward=WEIGHTS)
    ends = asyncio.run(every_path(on(decoder, models(default=WORTH, brevity=BREVITY))))
    have: defaultdict[Tokens, float] = defaultdict(float)
    for p, end in ends:
        [result] = done(end).results
        if result.diagnostics(RejectionInfo).accepted:
            have[result.candidate.tokens] += p
    mass = math.fsum(have.values())
    want = laws.tilted(PI, {y: total(y, WORTH, BREVITY) for y in PI}, 1.0)
    assert {y: p / mass for y, p in have.items()} == pytest.approx(want, abs=1e-9)


def function(call: Callable[[list[str], list[str]], list[float | None]]) -> Reward:
    """As the server serves it; `world` guards it."""
    return Batcher(call_in_thread(call), 64, PATIENCE)


def odd(_: list[str], completions: list[str]) -> list[float | None]:
    """A reward of completions with an odd word, and of no other."""
    return [float(c.count("odd")) if "odd" in c else None for c in completions]


def never(_: list[str], completions: list[str]) -> list[float | None]:
    return [None] * len(completions)


def serve(rewards: dict[str, Callable[[list[str], list[str]], list[float | None]]]) -> Any:
    return serving(world(rewards={"brevity": ToyBrevity(), **{name: function(c) for name, c in rewards.items()}}))


FIELDS: dict[str, Json] = {
    "best_of_n": {"n": 4},
    "controlled": {"block_tokens": 64},
    "rejection": {"r_max": 9.0},
    "particles": {"particles": 4},
    "speculative_rejection": {"n": 4, "checkpoints": [1]},
    "cascade": {"accept_threshold": -1.0, "accept_start": -2.0},
}
ALL: list[str] = [strategy.model_fields["strategy"].default for strategy in STRATEGIES]


def test_every_strategy_that_chooses_by_reward_is_here() -> None:
    assert set(ALL) - set(FIELDS) == {"sample", "reward_guided"}


@pytest.mark.parametrize("strategy", FIELDS)
def test_every_strategy_goes_by_the_rewards_that_apply(strategy: str) -> None:
    both = {"strategy": strategy, **FIELDS[strategy], "reward": {"odd": 1.0, "brevity": 1.0}, "return_candidates": True}
    alone = {**both, "reward": "odd"}
    statuses = []
    with serve({"odd": odd, "never": never}) as api:
        for seed in range(8):
            report = api.complete(seed=seed, decoding=both)["decoding"]
            for one in (*report["results"], *report["candidates"]):
                assert one["rewards"]["brevity"] is not None
                if "text" in one:
                    assert one["rewards"]["odd"] == (one["text"].count("odd") or None)
            answer = api.post("completions", {"prompt": "good", "seed": seed, "decoding": alone})
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                assert "odd" in ok(answer)["choices"][0]["text"]
                assert ok(answer)["decoding"]["results"][0]["rewards"]["odd"] >= 1.0
            else:
                assert refused(answer, 502)["code"] == "reward_failed"
        assert 200 in statuses
        nothing = {"prompt": "good", "decoding": {**both, "reward": "never"}}
        assert refused(api.post("completions", nothing), 502)["code"] == "reward_failed"
        assert refused(api.post("completions", {**nothing, "stream": True}), 502)["code"] == "reward_failed"


def test_a_reported_reward_that_does_not_apply_is_null_and_changes_nothing() -> None:
    with serve({"never": never}) as api:
        report = api.complete(decoding={"strategy": "sample", "reward": {"never": 1.0, "brevity": 1.0}})["decoding"]
        [result] = report["results"]
        assert result["rewards"]["never"] is None
        assert result["rewards"]["brevity"] is not None


def test_scoring_alone_gives_null_and_the_sum_of_the_others() -> None:
    weights = {"odd": 2.0, "brevity": 1.0}
    body = {"prompt": "good", "completions": ["odd odd", "bad"], "reward": weights}
    with serve({"odd": odd}) as api:
        rows = ok(api.post("rewards", body))["data"]
        assert [row["rewards"] for row in rows] == [{"odd": 2.0, "brevity": -2.0}, {"odd": None, "brevity": -1.0}]
        assert [row["total"] for row in rows] == [2.0, -1.0]
        rows = ok(api.post("rewards", {**body, "reward": "odd"}))["data"]
        assert [(row["rewards"], row["total"]) for row in rows] == [({"odd": 2.0}, 2.0), ({"odd": None}, None)]
        rows = ok(api.post("rewards", {**body, "calibrated": True, "rollouts": 20, "seed": 1}))["data"]
        assert rows[1]["calibrated_rewards"]["odd"] is None
        assert rows[1]["total"] == rows[1]["calibrated_rewards"]["brevity"]
        quantiles = rows[0]["calibrated_rewards"]
        assert rows[0]["total"] == pytest.approx(sum(w * quantiles[name] for name, w in weights.items()))


def reward_samples(api: Api, name: str) -> dict[str, float]:
    """How many rewards the metrics have seen, and their sum."""
    api.rest()
    return {k: api.metric(f"decant_{k}", reward=name) for k in ("reward_count", "reward_sum", "reward_gain_count")}


def test_means_and_metrics_are_of_the_rewards_that_apply() -> None:
    decoding = {"strategy": "best_of_n", "n": 8, "reward": {"odd": 0.0, "brevity": 1.0}, "return_candidates": True}
    with serve({"odd": odd, "never": never}) as api:
        count = total = 0.0
        for seed in range(6):
            report = api.complete(seed=seed, decoding=decoding)["decoding"]
            own = [c["rewards"]["odd"] for c in report["candidates"] if c["rewards"]["odd"] is not None]
            mean = report["results"][0]["mean_rewards"]["odd"]
            assert mean == (pytest.approx(sum(own) / len(own)) if own else None)
            reward = report["results"][0]["rewards"]["odd"]
            count, total = count + (reward is not None), total + (reward or 0.0)
        assert reward_samples(api, "odd") == {
            "reward_count": count, "reward_sum": total, "reward_gain_count": count
        }  # fmt: skip
        api.complete(decoding={**decoding, "reward": {"never": 1.0, "brevity": 1.0}})
        assert reward_samples(api, "never")["reward_count"] == 0
