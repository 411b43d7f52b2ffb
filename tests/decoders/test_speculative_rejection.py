"""Speculative rejection on the exact toy: its law, best-of-N where no candidate is given up, and tokens saved."""

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from pydantic import ValidationError

from decoders import SpeculativeRejection
from decoders.core import Sampling, Tokens
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.models import Models
from decoders.speculative_rejection import SpeculativeRejectionInfo
from decoders.testing import EOS, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, joint_law, law
from tests.support import laws
from tests.support.fakes import giving

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})
MODELS = Models(POLICY, {"default": ToyReward()})
PI = POLICY.completions()


def worth(y: Tokens) -> float:
    return ToyReward().of(y)


def kept(open_: Sequence[int], value: Mapping[int, float], count: int) -> list[tuple[frozenset[int], float]]:
    """Return the `count` of greatest value, with the probability of each way to break ties."""
    if count >= len(open_):
        return [(frozenset(open_), 1.0)]
    edge = sorted((value[i] for i in open_), reverse=True)[count - 1]
    above = [i for i in open_ if value[i] > edge]
    level = [i for i in open_ if value[i] == edge]
    ways = list(itertools.combinations(level, count - len(above)))
    return [(frozenset([*above, *way]), 1 / len(ways)) for way in ways]


def by_definition(pi: Mapping[Tokens, float], n: int, checkpoints: Sequence[int], keep: float) -> dict[Tokens, float]:
    """Return the law, summed over every pool of whole answers: a candidate given up could have ended in any way."""
    out: defaultdict[Tokens, float] = defaultdict(float)
    for pool, p in laws.pools(pi, n):
        states: list[tuple[frozenset[int], float]] = [(frozenset(range(n)), p)]
        for c in checkpoints:
            following = []
            for alive, q in states:
                open_ = sorted(i for i in alive if len(pool[i]) > c)
                value = {i: worth(pool[i][:c]) for i in open_}
                for stay, share in kept(open_, value, math.ceil(keep * len(open_))):
                    following.append((alive - frozenset(open_) | stay, q * share))
            states = following
        for alive, q in states:
            best = [i for i in alive if worth(pool[i]) == max(worth(pool[j]) for j in alive)]
            for i in best:
                out[pool[i]] += q / len(best)
    return dict(out)


@pytest.mark.parametrize("checkpoints", [[1], [2], [1, 2]])
@pytest.mark.parametrize("keep", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_its_law(n: int, keep: float, checkpoints: list[int]) -> None:
    decoder = SpeculativeRejection(n=n, keep=keep, checkpoints=checkpoints)
    have = asyncio.run(law(bind(decoder, MODELS)))
    assert have == pytest.approx(by_definition(PI, n, checkpoints, keep), abs=EXACT)


@pytest.mark.parametrize("more", [{"keep": 1.0, "checkpoints": [1, 2]}, {"keep": 0.1, "checkpoints": [3]}])
def test_where_nothing_is_given_up_it_is_best_of_n(more: dict[str, object]) -> None:
    decoder = SpeculativeRejection.model_validate({"n": 3, **more})
    want = laws.order_statistic(PI, {y: worth(y) for y in PI}, 3)
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_where_something_is_it_is_not() -> None:
    decoder = SpeculativeRejection(n=3, keep=0.3, checkpoints=[1])
    want = laws.order_statistic(PI, {y: worth(y) for y in PI}, 3)
    assert laws.total_variation(asyncio.run(law(bind(decoder, MODELS))), want) > 0.01


def test_it_searches_the_guided_policy() -> None:
    guided = POLICY.completions(guides={"kind": 1.0})
    decoder = SpeculativeRejection(n=2, keep=0.5, checkpoints=[1], guides={"kind": 1.0})
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(by_definition(guided, 2, [1], 0.5), abs=EXACT)


def test_several_results_are_independent_runs() -> None:
    models = Models(ToyPolicy(3, 2), MODELS.rewards)
    decoder = SpeculativeRejection(n=2, keep=0.5, checkpoints=[1])
    alone = asyncio.run(law(bind(decoder, models)))
    for (a, b), p in asyncio.run(joint_law(bind(decoder, models, Sampling(n=2)))).items():
        assert p == pytest.approx(alone[a] * alone[b], abs=EXACT)


def test_it_draws_what_it_says_and_no_more() -> None:
    decoder = SpeculativeRejection(n=3, keep=0.3, checkpoints=[1])
    saw_one_aborted = False
    for _, end in asyncio.run(every_path(bind(decoder, MODELS))):
        last = done(end)
        assert last.cost.candidates == 3
        assert last.cost.generated_tokens == sum(len(s.candidate.tokens) for s in last.candidates)
        aborted = [s for s in last.candidates if s.aborted]
        finished = [s for s in last.candidates if not s.aborted]
        assert all(s.candidate.finish is None and len(s.candidate.tokens) == 1 for s in aborted)
        assert all(s.candidate.tokens[-1] == EOS for s in finished)
        mean = sum(len(s.candidate.tokens) for s in finished) / len(finished)
        assert last.results[0].diagnostics(SpeculativeRejectionInfo).tokens_saved == pytest.approx(
            sum(max(0.0, mean - 1) for _ in aborted)
        )
        assert last.cost.generated_tokens <= decoder.max_cost(Sampling(max_tokens=3), MODELS).generated_tokens
        saw_one_aborted |= len(aborted) == 2
    assert saw_one_aborted


def test_the_divergence_is_bounded() -> None:
    decoder = SpeculativeRejection(n=3, keep=0.3, checkpoints=[1, 2], return_kl=True)
    ends = asyncio.run(every_path(bind(decoder, MODELS)))
    [bound] = {done(end).results[0].kl.nats for _, end in ends}  # type: ignore[union-attr]
    assert bound == pytest.approx(math.log(3))
    assert laws.kl(asyncio.run(law(bind(decoder, MODELS))), PI) <= bound


def test_a_partial_without_a_reward_is_the_first_to_go() -> None:
    models = Models(ToyPolicy(3, 2), {"default": giving(math.nan)})
    ends = asyncio.run(every_path(bind(SpeculativeRejection(n=2, checkpoints=[1]), models)))
    assert all(isinstance(end, NoUsableReward) for _, end in ends)


def test_one_is_kept_in_any_case() -> None:
    want = by_definition(PI, 2, [1, 2], 0.5)
    decoder = SpeculativeRejection(n=2, keep=1e-12, checkpoints=[1, 2])
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


@pytest.mark.parametrize("checkpoints", [[], [0], [2, 2], [3, 1]])
def test_checkpoints_rise(checkpoints: list[int]) -> None:
    with pytest.raises(ValidationError):
        SpeculativeRejection(checkpoints=checkpoints)


@pytest.mark.parametrize(
    ("field", "sampling"),
    [
        ("sampling.temperature", Sampling(temperature=0.0)),
        ("sampling.presence_penalty", Sampling(presence_penalty=1.0)),
    ],
)
def test_what_cannot_be_is_named(field: str, sampling: Sampling) -> None:
    with pytest.raises(InvalidRequest) as raised:
        SpeculativeRejection().check(MODELS, sampling)
    assert raised.value.field == field
