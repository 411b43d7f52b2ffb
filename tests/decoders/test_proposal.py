"""Best-of-N over another strategy on the toy: the law of the composition is P_N of the proposal's law."""

import asyncio
import itertools
import math
from collections import defaultdict
from typing import Any

import pytest

from decoders import BestOfN, Controlled, Particles, RewardGuided, Sample, SpeculativeRejection
from decoders.base import Decoder
from decoders.core import Sampling, Tokens
from decoders.errors import InvalidRequest
from decoders.maths.logmath import best_of_n_kl
from decoders.maths.transforms import Exponential
from decoders.models import Models
from decoders.parts.budget import Budget
from decoders.parts.selection import Argmin, Softmax
from decoders.rejection import RejectionInfo
from decoders.testing import ToyBrevity, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, law
from tests.support import laws

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=2, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})  # three completions
MODELS = Models(POLICY, {"default": ToyReward(), "brevity": ToyBrevity()})
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
BREVITY = {y: -float(len(y) - 1) for y in PI}

INDEPENDENT: list[Decoder] = [
    Sample(),
    Sample(guides={"kind": 0.5}),
    RewardGuided(guides={"kind": 1.0}),
    BestOfN(n=2, reward="brevity"),
    BestOfN(n=2, reward="default", select=Argmin(), guides={"kind": 1.0}),
    Controlled(candidates=2, block_tokens=1, reward="default"),
    Particles(particles=2, block_tokens=1, reward="default", beta=0.7),
    SpeculativeRejection(n=2, checkpoints=[1], reward="brevity"),
]
named = pytest.mark.parametrize("proposal", INDEPENDENT, ids=lambda d: f"{d.strategy}{' guided' if d.guides else ''}")


@named
def test_argmax_over_a_proposal_is_the_order_statistic_of_its_law(proposal: Any) -> None:
    inner = asyncio.run(law(bind(proposal, MODELS)))
    have = asyncio.run(law(bind(BestOfN(n=2, reward="default", proposal=proposal), MODELS)))
    assert have == pytest.approx(laws.order_statistic(inner, WORTH, 2), abs=EXACT)


def test_other_rules_and_rewards_go_by_the_outer_request() -> None:
    proposal = BestOfN(n=2, reward="default")
    inner = asyncio.run(law(bind(proposal, MODELS)))
    outer = BestOfN(n=2, reward="brevity", select=Softmax(beta=0.7), proposal=proposal)
    want = laws.chosen(inner, 2, laws.by(BREVITY, laws.boltzmann(0.7)))
    assert asyncio.run(law(bind(outer, MODELS))) == pytest.approx(want, abs=EXACT)


def rejected(n: int, draws: int, accept: dict[Tokens, float]) -> dict[tuple[Tokens, ...], float]:
    """Return the law of n results of rejection among these draws, with softmax picks where too few are accepted."""
    out: defaultdict[tuple[Tokens, ...], float] = defaultdict(float)
    for pool, p in laws.pools(PI, draws):
        for flags in itertools.product([True, False], repeat=draws):
            q = p * math.prod(accept[y] if flag else 1 - accept[y] for y, flag in zip(pool, flags, strict=True))
            taken = [i for i, flag in enumerate(flags) if flag][:n]
            rest = [i for i in range(draws) if i not in taken]
            for picks in itertools.permutations(rest, n - len(taken)):
                left, share = list(rest), q
                for i in picks:
                    weights = {j: accept[pool[j]] for j in left}  # proportional to exp(r / beta)
                    share *= weights[i] / math.fsum(weights.values())
                    left.remove(i)
                out[tuple(pool[i] for i in (*taken, *picks))] += share
    return out


def test_over_rejection_by_brute_force() -> None:
    """Softmax picks of rejection, where too few draws are accepted, are part of the law of the composition."""
    accept = {y: math.exp((WORTH[y] - 1.5) / 0.9) for y in PI}
    want: defaultdict[Tokens, float] = defaultdict(float)
    for results, p in rejected(2, 3, accept).items():
        best = [y for y in results if WORTH[y] == max(WORTH[z] for z in results)]
        for y in best:
            want[y] += p / len(best)
    by_default = {"reward": "default"}
    outer = BestOfN.model_validate(
        {
            "n": 2,
            "reward": "default",
            "proposal": {"strategy": "rejection", "r_max": 1.5, "beta": 0.9, "batch": 3, "max_draws": 3} | by_default,
        }
    )
    assert asyncio.run(law(bind(outer, MODELS))) == pytest.approx(want, abs=EXACT)


def test_inference_aware_best_of_n_given_its_rollouts() -> None:
    """InfAlign: where both of the proposal's draws are accepted, P_2 of the tilted law of the estimated quantiles."""
    phi, beta = Exponential(t=3.0), 20.0
    inner = {
        "strategy": "rejection", "reward": "default", "calibrated": True, "rollouts": 1, "beta": beta, "batch": 2,
        "max_draws": 2, "transform": phi.model_dump(),
    }  # fmt: skip
    outer = BestOfN.model_validate({"n": 2, "reward": "default", "proposal": inner})
    have: defaultdict[Tokens, float] = defaultdict(float)
    both = 0.0
    for p, end in asyncio.run(every_path(bind(outer, MODELS))):
        [result] = done(end).results
        have[result.candidate.tokens] += p
        both += p * bool(
            result.scored.proposal is not None and result.scored.proposal.diagnostics(RejectionInfo).accepted
        )
    want: defaultdict[Tokens, float] = defaultdict(float)
    for z, share in PI.items():
        score = {y: phi(laws.quantile(WORTH[y], [WORTH[z]])) for y in PI}
        accept = {y: math.exp((score[y] - phi(1.0)) / beta) for y in PI}
        for results, p in rejected(2, 2, accept).items():
            best = [y for y in results if WORTH[y] == max(WORTH[w] for w in results)]
            for y in best:
                want[y] += share * p / len(best)
    assert have == pytest.approx(want, abs=EXACT)
    assert both > 0.5


def test_a_best_of_n_proposal_draws_one_answer_at_a_time() -> None:
    proposal = {"strategy": "best_of_n", "reward": "brevity", "n": 2, "poisson": True}
    BestOfN.model_validate({"n": 8, "reward": "default", "proposal": proposal}).check(MODELS, Sampling())


def test_divergences_add_by_the_chain_rule_where_the_proposals_is_known() -> None:
    """Its mean over the law is the divergence of the guided policy plus the order statistic's bound of the choice."""
    guides = {"kind": 1.0}
    guided = POLICY.completions(guides=guides)
    outer = BestOfN(n=2, reward="default", proposal=RewardGuided(guides=guides), return_kl=True)
    for _, end in asyncio.run(every_path(bind(outer, MODELS))):
        [result] = done(end).results
        y = result.candidate.tokens
        assert result.kl is not None
        assert result.kl.estimator == "order_statistic_bound+log_ratio"
        assert result.kl.nats == pytest.approx(best_of_n_kl(2) + math.log(guided[y] / PI[y]), abs=EXACT)


@pytest.mark.parametrize("proposal", [INDEPENDENT[3], INDEPENDENT[5], INDEPENDENT[7]], ids=lambda d: d.strategy)
def test_a_bound_does_not_add_and_nothing_is_reported(proposal: Any) -> None:
    outer = BestOfN(n=2, reward="default", proposal=proposal, return_kl=True)
    assert all(done(end).results[0].kl is None for _, end in asyncio.run(every_path(bind(outer, MODELS))))


def test_a_reward_that_the_proposal_knows_is_not_asked_again() -> None:
    proposal = Sample(reward="default")
    for _, end in asyncio.run(every_path(bind(BestOfN(n=2, reward="default", proposal=proposal), MODELS))):
        assert done(end).cost.scored_tokens == done(end).cost.generated_tokens
    for _, end in asyncio.run(every_path(bind(BestOfN(n=2, reward="brevity", proposal=proposal), MODELS))):
        assert done(end).cost.scored_tokens == 2 * done(end).cost.generated_tokens


def test_what_it_may_draw_is_what_the_proposal_may() -> None:
    outer = BestOfN(n=2, reward="default", proposal=BestOfN(n=2, reward="brevity"))
    most = outer.max_cost(Sampling(max_tokens=5), MODELS)
    assert (most.candidates, most.generated_tokens) == (4, 20)
    for _, end in asyncio.run(every_path(bind(outer, MODELS))):
        assert done(end).cost.candidates == 4


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("strategy.guides", {"guides": {"kind": 1.0}, "proposal": {"strategy": "sample"}}),
        ("strategy.proposal.return_kl", {"proposal": {"strategy": "sample", "return_kl": True}}),
        ("strategy.proposal.budget", {"proposal": {"strategy": "sample", "budget": Budget(tokens=5)}}),
        ("strategy.proposal.r_max", {"proposal": {"strategy": "rejection", "reward": "default"}}),
        ("strategy.proposal.guides", {"proposal": {"strategy": "reward_guided"}}),
        ("strategy.proposal.reward", {"proposal": {"strategy": "controlled", "reward": "none"}}),
        ("strategy.n", {"proposal": {"strategy": "rejection", "reward": "default", "r_max": 1.0, "max_draws": 4}}),
        ("sampling.presence_penalty", {"proposal": {"strategy": "controlled", "reward": "default"}}),
    ],
)
def test_what_is_wrong_inside_is_named_there(field: str, fields: dict[str, Any]) -> None:
    sampling = Sampling(presence_penalty=1.0) if field == "sampling.presence_penalty" else Sampling()
    with pytest.raises(InvalidRequest) as raised:
        BestOfN.model_validate({"reward": "default", **fields}).check(MODELS, sampling)
    assert raised.value.field == field
