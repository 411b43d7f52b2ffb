"""Guided decoding on the exact toy: its law by enumeration, alone and under best-of-N, and its presets."""

import asyncio
import math
from dataclasses import dataclass

import pytest

from decoders import BestOfN, RewardGuided, Sample
from decoders.core import Prompt, Sampling, Tokens
from decoders.errors import InvalidRequest, UnknownGuide
from decoders.models import Models
from decoders.parts.selection import Softmax
from decoders.policy import TokenLaw
from decoders.testing import PROMPT, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, law
from tests.decoders.guided_toy import EXACT, MODELS, POLICY, by_definition, probabilities
from tests.support import laws

WEIGHTS = [{"kind": 1.0}, {"kind": -0.5}, {"kind": 2.0, "odd": -1.0}, {"q": 1.5}, {"kind": 0.5, "odd": 0.25, "q": -1.0}]


@pytest.mark.parametrize("guides", WEIGHTS, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("strategy", [Sample, RewardGuided])
def test_law_is_the_tilted_one(
    strategy: type[Sample | RewardGuided], guides: dict[str, float], temperature: float
) -> None:
    sampling = Sampling(temperature=temperature, stream=True)
    have = asyncio.run(law(bind(strategy(guides=guides), MODELS, sampling)))
    assert have == pytest.approx(by_definition(guides, temperature), abs=EXACT)
    assert laws.total_variation(have, by_definition({}, temperature)) > 0.01


@pytest.mark.parametrize("n", [2, 3])
def test_best_of_n_over_guided_samples_has_the_order_statistic_law_of_the_guided_policy(n: int) -> None:
    guides = {"kind": 1.0, "odd": -0.5}
    have = asyncio.run(law(bind(BestOfN(n=n, guides=guides, reward="default"), MODELS)))
    guided = by_definition(guides)
    rewards = {y: ToyReward().of(y) for y in guided}
    assert have == pytest.approx(laws.order_statistic(guided, rewards, n), abs=EXACT)


def test_softmax_of_guided_samples() -> None:
    guides = {"kind": 1.0}
    decoder = BestOfN(n=3, guides=guides, reward="default", select=Softmax(beta=0.5))
    guided = by_definition(guides)
    rewards = {y: ToyReward().of(y) for y in guided}
    want = laws.chosen(guided, 3, laws.by(rewards, laws.boltzmann(0.5)))
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_a_calibrated_reward_is_a_quantile_under_the_frozen_policy_whatever_the_guides() -> None:
    """One rollout and one candidate: the candidate comes from the guided policy, its rival does not."""
    guides = {"kind": 2.0}
    decoder = BestOfN(n=1, guides=guides, reward="default", calibrated=True, rollouts=1)
    pi, guided = by_definition({}), by_definition(guides)
    worth = {y: ToyReward().of(y) for y in pi}
    ends = asyncio.run(every_path(bind(decoder, MODELS)))
    have = math.fsum(p * ((done(end).results[0].calibrated or {})["default"] or 0.0) for p, end in ends)
    assert have == pytest.approx(laws.win_rate(guided, pi, worth), abs=EXACT)


def test_weights_of_zero_are_no_guides() -> None:
    zero = asyncio.run(law(bind(Sample(guides={"kind": 0.0}), MODELS)))
    assert zero == pytest.approx(by_definition({}), abs=EXACT)
    [(_, end), *_] = asyncio.run(every_path(bind(Sample(guides={"kind": 0.0}, return_kl=True), MODELS)))
    assert done(end).results[0].kl is not None


@pytest.mark.parametrize(
    ("guides", "error", "field", "words"),
    [
        ({"none": 1.0}, UnknownGuide, "strategy.guides", "'none' is not loaded. Loaded guides: kind, odd, q"),
        ({"kind": 101.0}, InvalidRequest, "strategy.guides.kind", "Loaded guides: kind, odd, q"),
        ({"kind": math.inf}, InvalidRequest, "strategy.guides.kind", "between -100 and 100"),
        ({"kind": math.nan}, InvalidRequest, "strategy.guides.kind", "between -100 and 100"),
    ],
)
@pytest.mark.parametrize("strategy", [Sample, RewardGuided, BestOfN])
def test_what_is_wrong_with_guides_is_said_with_what_is_loaded(
    strategy: type[Sample | RewardGuided | BestOfN],
    guides: dict[str, float],
    error: type[InvalidRequest],
    field: str,
    words: str,
) -> None:
    with pytest.raises(error, match=words) as raised:
        strategy(guides=guides, reward="default").check(MODELS, Sampling())
    assert raised.value.field == field


@pytest.mark.parametrize("guides", [{}, {"kind": 0.0}])
def test_reward_guided_requires_a_guide(guides: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match="Loaded guides: kind, odd, q") as raised:
        RewardGuided(guides=guides).check(MODELS, Sampling())
    assert raised.value.field == "strategy.guides"


@pytest.mark.parametrize(
    ("preset", "guides", "factors"),
    [
        ("weak_to_strong", {"kind": 1.0}, lambda p, g, _: p * g),
        ("realign", {"kind": 0.7}, lambda p, g, _: p * (g / p) ** 0.7),
        ("proxy", {"kind": 1.0, "odd": -1.0}, lambda p, g, h: p * g / h),
        ("contrastive", {"odd": -0.4}, lambda p, _, h: p / h**0.4),
    ],
)
def test_presets_are_the_papers_formulas(preset: str, guides: dict[str, float], factors: object) -> None:
    """kind is the tuned or weak model, odd the reference or the amateur; realign's reference is the policy."""
    assert callable(factors)
    weights = TokenLaw(1 - guides["kind"], guides) if preset == "realign" else TokenLaw(guides=guides)
    for prefix in [(), (1,), (2,)]:
        p = [math.exp(v) for v in POLICY.logprobs((), prefix)]
        g, h = (probabilities(POLICY.loaded[name].logits(prefix, 3)) for name in ("kind", "odd"))
        want = [factors(*row) for row in zip(p, g, h, strict=True)]
        have = [math.exp(v) for v in POLICY.guided((), prefix, weights)]
        assert have == pytest.approx([w / math.fsum(want) for w in want], abs=EXACT)


@dataclass(frozen=True)
class SoftValue(ToyGuide):
    """Q(y_<t, v) = beta log E_pi[exp(r / beta) | y_<t v], by enumeration."""

    kind: str = "q_head"
    beta: float = 0.5

    def logits(self, prefix: Tokens, vocabulary: int) -> list[float]:
        return [self._value((*prefix, v)) for v in range(vocabulary)]

    def _value(self, prefix: Tokens) -> float:
        going = {y: p for y, p in POLICY.completions().items() if y[: len(prefix)] == prefix}
        if not going:  # no completion begins with these tokens, so the policy never draws it
            return 0.0
        mean = math.fsum(p * math.exp(ToyReward().of(y) / self.beta) for y, p in going.items()) / math.fsum(
            going.values()
        )
        return self.beta * math.log(mean)


def test_the_soft_value_as_a_q_head_samples_the_tilted_law_exactly() -> None:
    """lambda = 1/beta: this guide alone has the law pi exp(r/beta)/Z of whole completions."""
    guide = SoftValue()
    models = Models(ToyPolicy(vocabulary=3, longest=3, loaded={"value": guide}), MODELS.rewards)
    have = asyncio.run(law(bind(RewardGuided(guides={"value": 1 / guide.beta}), models)))
    pi = by_definition({})
    assert have == pytest.approx(laws.tilted(pi, {y: ToyReward().of(y) for y in pi}, guide.beta), abs=EXACT)


def test_scores_of_a_completion_are_those_of_its_law() -> None:
    candidate = done(asyncio.run(every_path(bind(Sample(), MODELS)))[0][1]).results[0].candidate
    for guides in WEIGHTS:
        have = asyncio.run(POLICY.logprob(Prompt((), ""), candidate, TokenLaw(guides=guides)))
        assert have == pytest.approx(math.log(by_definition(guides)[candidate.tokens]), abs=EXACT)
    assert PROMPT.tokens == ()
