"""The reference of an answer's KL: the frozen policy, the law that the request samples, or none."""

import asyncio
import math
from typing import Any

import pytest

from decoders import STRATEGIES, BestOfN, Controlled, Particles, Rejection, Sample, SpeculativeRejection
from decoders.base import Decoder
from decoders.core import Sampling, Tokens
from decoders.events import KL, Done
from decoders.models import Models
from decoders.parts.selection import Softmax
from decoders.rng import SeededRng
from decoders.testing import PROMPT, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, law, mean
from tests.support import laws

EXACT = 1e-9
GUIDED = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})
PLAIN = ToyPolicy(vocabulary=3, longest=3)
PI = PLAIN.completions()
COOL = Sampling(temperature=0.5)
SHAPED = [Sampling(top_k=2), Sampling(logit_bias={1: 1.0}), Sampling(temperature=0.5, top_k=2)]
SEARCHES: list[Decoder] = [
    BestOfN(n=2, return_kl=True),
    BestOfN(n=2, select=Softmax(beta=0.5), return_kl=True),
    Controlled(candidates=2, block_tokens=2, return_kl=True),
    Controlled(candidates=2, block_tokens=2, select=Softmax(beta=0.5), return_kl=True),
    SpeculativeRejection(n=2, checkpoints=[1], return_kl=True),
]


def models(policy: ToyPolicy) -> Models:
    return Models(policy, {"default": ToyReward()})


def run(decoder: Decoder, policy: ToyPolicy, sampling: Sampling) -> list[tuple[float, Done]]:
    ends = asyncio.run(every_path(bind(decoder, models(policy), sampling)))
    return [(p, done(end)) for p, end in ends]


def kl(end: Done) -> KL:
    [result] = end.results
    assert result.kl is not None
    return result.kl


def drawn(sampling: Sampling) -> dict[Tokens, float]:
    return asyncio.run(law(bind(Sample(), models(PLAIN), sampling)))


def test_a_plain_sample_of_the_policys_law_is_at_zero_from_it() -> None:
    for policy in (PLAIN, GUIDED):
        assert {kl(end) for _, end in run(Sample(return_kl=True), policy, Sampling())} == {KL(0.0, "exact", True)}


def test_a_tempered_sample_is_at_its_log_ratio_from_the_policy() -> None:
    """An engine with guides can score the tempered law. The mean log-ratio is the divergence."""
    ends = run(Sample(return_kl=True), GUIDED, COOL)
    q = drawn(COOL)
    for _, end in ends:
        y = end.results[0].candidate.tokens
        assert kl(end) == KL(kl(end).nats, "log_ratio", True)
        assert kl(end).nats == pytest.approx(math.log(q[y] / PI[y]), abs=EXACT)
        assert end.results[0].policy_logprob == pytest.approx(math.log(PI[y]), abs=EXACT)
    assert mean(ends, lambda end: kl(end).nats) == pytest.approx(laws.kl(q, PI), abs=EXACT)
    assert laws.kl(q, PI) > 0.05


@pytest.mark.parametrize(
    ("policy", "sampling"), [(PLAIN, COOL), *((policy, shaped) for policy in (PLAIN, GUIDED) for shaped in SHAPED)]
)
def test_what_cannot_be_measured_from_the_policy_names_the_law_that_is_sampled(
    policy: ToyPolicy, sampling: Sampling
) -> None:
    for _, end in run(Sample(return_kl=True), policy, sampling):
        assert kl(end) == KL(0.0, "exact", True, "sampling")


@pytest.mark.parametrize("sampling", SHAPED)
def test_under_guides_a_shaped_law_has_no_divergence(sampling: Sampling) -> None:
    for decoder in (Sample(guides={"kind": 1.0}, return_kl=True), *_guided(SEARCHES)):
        for _, end in run(decoder, GUIDED, sampling):
            [result] = end.results
            assert result.kl is None
            assert result.policy_logprob == pytest.approx(math.log(PI[result.candidate.tokens]), abs=EXACT)


def _guided(decoders: list[Decoder]) -> list[Decoder]:
    return [decoder.model_copy(update={"guides": {"kind": 1.0}}) for decoder in decoders]


@pytest.mark.parametrize("policy", [PLAIN, GUIDED], ids=["plain", "guided"])
@pytest.mark.parametrize("decoder", [Sample(return_kl=True), BestOfN(n=1, return_kl=True)])
def test_a_greedy_answer_is_certain_and_its_divergence_its_surprise(decoder: Decoder, policy: ToyPolicy) -> None:
    [(_, end)] = run(decoder, policy, Sampling(temperature=0.0))
    nats = -math.log(PI[end.results[0].candidate.tokens])
    assert kl(end).nats == pytest.approx(nats, abs=EXACT)
    assert kl(end).reference == "policy"


@pytest.mark.parametrize("decoder", SEARCHES)
@pytest.mark.parametrize("sampling", [Sampling(), COOL, *SHAPED], ids=lambda s: f"{s.temperature}-{s.top_k}")
@pytest.mark.parametrize("policy", [PLAIN, GUIDED], ids=["plain", "guided"])
def test_a_bound_holds_from_the_law_that_it_names(decoder: Decoder, sampling: Sampling, policy: ToyPolicy) -> None:
    ends = run(decoder, policy, sampling)
    tempered = policy is GUIDED and sampling == COOL
    named = {kl(end).reference for _, end in ends}
    assert named == {"policy" if tempered or sampling == Sampling() else "sampling"}
    reference = PI if named == {"policy"} else drawn(sampling)
    have = asyncio.run(law(bind(decoder, models(policy), sampling)))
    assert mean(ends, lambda end: kl(end).nats) >= laws.kl(have, reference) - EXACT
    assert all(kl(end).estimator.endswith("+log_ratio") == tempered for _, end in ends)


@pytest.mark.parametrize("decoder", [Rejection(r_max=2.0, max_draws=1, return_kl=True), Particles(particles=2)])
def test_a_tilt_names_its_reference_too(decoder: Decoder) -> None:
    measured = decoder.model_copy(update={"return_kl": True})
    for policy, sampling, reference in (
        (PLAIN, COOL, "sampling"),
        (GUIDED, COOL, "policy"),
        (PLAIN, Sampling(), "policy"),
    ):
        found = {r.kl.reference for _, end in run(measured, policy, sampling) for r in end.results if r.kl is not None}
        assert found == {reference}


def test_a_choice_among_a_proposals_answers_is_measured_from_what_the_proposal_is() -> None:
    decoder = BestOfN(n=2, proposal=Sample(), return_kl=True)
    for policy, reference in ((PLAIN, "sampling"), (GUIDED, "policy")):
        ends = run(decoder, policy, COOL)
        assert {kl(end).reference for _, end in ends} == {reference}
        against = PI if reference == "policy" else drawn(COOL)
        have = asyncio.run(law(bind(decoder, models(policy), COOL)))
        assert mean(ends, lambda end: kl(end).nats) >= laws.kl(have, against) - EXACT


def test_unasked_for_nothing_is_scored_again() -> None:
    needs: dict[str, dict[str, Any]] = {"rejection": {"r_max": 2.0}, "cascade": {"accept_threshold": -9.0}}
    for kind in STRATEGIES:
        name = kind.model_fields["strategy"].default
        guides = {"kind": 1.0} if name == "reward_guided" else {}
        decoder = kind.model_validate({"guides": guides, **needs.get(name, {})})
        assert all(result.policy_logprob is None for result in asyncio.run(_first(decoder)).results)


async def _first(decoder: Decoder) -> Done:
    last: Any = None
    async for event in decoder.decode(PROMPT, models(GUIDED), COOL, SeededRng(1)):
        last = event
    assert isinstance(last, Done)
    return last
