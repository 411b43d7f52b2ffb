"""Guided decoding on the exact toy: the KL that its results report, and the cost of measuring it."""

import asyncio
import math

import pytest

from decoders import BestOfN, RewardGuided, Sample
from decoders.core import Candidate, Grammar, Sampling, TokenLogprob
from decoders.parts.divergence import distance
from decoders.testing import PROMPT, bind, done, every_path
from tests.decoders.guided_toy import EXACT, MODELS, by_definition
from tests.support import laws


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("strategy", [Sample, RewardGuided])
def test_the_log_ratio_is_an_unbiased_estimate_of_kl(strategy: type[Sample | RewardGuided], temperature: float) -> None:
    guides = {"kind": 1.0, "odd": -0.5}
    decoder = strategy(guides=guides, return_kl=True)
    ends = asyncio.run(every_path(bind(decoder, MODELS, Sampling(temperature=temperature))))
    pi, guided = by_definition({}), by_definition(guides, temperature)
    mean = 0.0
    for p, end in ends:
        [result] = done(end).results
        y = result.candidate.tokens
        assert result.kl is not None
        assert result.kl.estimator == "log_ratio"
        assert result.kl.nats == pytest.approx(math.log(guided[y] / pi[y]), abs=EXACT)
        assert result.policy_logprob == pytest.approx(math.log(pi[y]), abs=EXACT)
        mean += p * result.kl.nats
    assert mean == pytest.approx(laws.kl(guided, pi), abs=EXACT)


def test_no_divergence_is_known_under_a_grammar() -> None:
    """An engine reports log-probabilities with forbidden tokens masked, and the masked law is not known."""
    guides = {"kind": 1.0}
    pi, guided = by_definition({}), by_definition(guides)
    y = max(guided, key=lambda tokens: guided[tokens])
    masked = tuple(TokenLogprob(token, "", 0.0) for token in y)  # as if nothing else had been allowed
    answer = Candidate(y, "", "stop", logprobs=masked)
    for grammar, want in ((Grammar("regex", "a"), None), (None, -math.log(pi[y]))):
        far = asyncio.run(distance(MODELS, PROMPT, answer, Sampling(guides=guides, grammar=grammar)))
        assert far.log_ratio == (want if want is None else pytest.approx(want, abs=EXACT))
        assert far.policy_logprob == pytest.approx(math.log(pi[y]), abs=EXACT)


def test_under_best_of_n_divergences_add_up() -> None:
    guides = {"kind": 1.0}
    ends = asyncio.run(every_path(bind(BestOfN(n=2, guides=guides, reward="default", return_kl=True), MODELS)))
    pi, guided = by_definition({}), by_definition(guides)
    for _, end in ends:
        [result] = done(end).results
        y = result.candidate.tokens
        assert result.kl is not None
        assert result.kl.estimator == "atomic+log_ratio"
        assert result.kl.nats == pytest.approx(laws.atomic(2, guided[y]) + math.log(guided[y] / pi[y]), abs=EXACT)


@pytest.mark.parametrize("decoder", [RewardGuided(guides={"kind": 1.0}), BestOfN(n=2, guides={"kind": 1.0})])
def test_divergence_is_unknown_unless_the_request_asks_for_it(decoder: RewardGuided | BestOfN) -> None:
    [(_, end), *_] = asyncio.run(every_path(bind(decoder, MODELS)))
    [result] = done(end).results
    assert (result.kl, result.policy_logprob) == (None, None)


def test_at_temperature_zero_the_answer_is_certain_and_its_divergence_is_minus_its_log_probability() -> None:
    decoder = RewardGuided(guides={"kind": 1.0}, return_kl=True)
    [(_, end)] = asyncio.run(every_path(bind(decoder, MODELS, Sampling(temperature=0.0))))
    [result] = done(end).results
    assert result.kl is not None
    assert result.kl.nats == pytest.approx(-math.log(by_definition({})[result.candidate.tokens]), abs=EXACT)


def test_the_passes_that_measure_divergence_are_counted() -> None:
    """At temperature 1 one pass gives the policy's log-probability; otherwise a second gives the guided law's."""
    for temperature, passes in ((1.0, 1), (0.6, 2)):
        decoder = RewardGuided(guides={"kind": 1.0}, return_kl=True)
        sampling = Sampling(temperature=temperature)
        for _, end in asyncio.run(every_path(bind(decoder, MODELS, sampling))):
            ended = done(end)
            assert ended.cost.scored_tokens == passes * ended.cost.generated_tokens  # the prompt is empty
