"""Plain sampling: its law is the policy's, after the request's own temperature and top-k."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from decoders import Sample
from decoders.core import Candidate, Sampling, Tokens
from decoders.errors import InvalidRequest
from decoders.events import KL, Done, Step
from decoders.models import Models
from decoders.rng import SeededRng
from decoders.testing import EOS, PROMPT, ToyBrevity, ToyPolicy, ToyReward, bind, done, every_path, joint_law, law

POLICY = ToyPolicy(vocabulary=3, longest=4)
MODELS = Models(POLICY, {"worth": ToyReward(), "brevity": ToyBrevity()})


def changed(next_law: list[float], temperature: float, top_k: int) -> list[float]:
    """Return a next-token law to the power 1/temperature, of its top_k likeliest tokens only, normalised."""
    powered = [p ** (1 / temperature) for p in next_law]
    ranked = sorted(range(len(powered)), key=lambda v: -powered[v])
    kept = ranked[: top_k or len(powered)]
    z = math.fsum(powered[v] for v in kept)
    return [powered[v] / z if v in kept else 0.0 for v in range(len(powered))]


def policy_law(temperature: float = 1.0, top_k: int = 0, max_tokens: int = 16) -> dict[Tokens, float]:
    """Return the probability of every completion, by the chain rule."""
    law: dict[Tokens, float] = {}

    def grow(prefix: Tokens, p: float) -> None:
        if prefix and (prefix[-1] == EOS or len(prefix) == max_tokens):
            law[prefix] = p
            return
        following = [math.exp(v) for v in POLICY.logprobs((), prefix)]
        for token, q in enumerate(changed(following, temperature, top_k)):
            if q > 0:
                grow((*prefix, token), p * q)

    grow((), 1.0)
    return law


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("temperature", "top_k", "max_tokens"),
    [(1.0, 0, 16), (0.5, 0, 16), (2.0, 2, 16), (1.0, 1, 16), (0.7, 2, 2), (1.0, 0, 1)],
)
def test_law_is_the_policys(temperature: float, top_k: int, max_tokens: int, stream: bool) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, max_tokens=max_tokens, stream=stream)
    have = asyncio.run(law(bind(Sample(), MODELS, sampling)))
    assert have == pytest.approx(policy_law(temperature, top_k, max_tokens), abs=1e-12)


def test_the_toys_own_table_is_the_policys_law() -> None:
    assert POLICY.completions() == pytest.approx(policy_law(), abs=1e-12)
    assert POLICY.completions(max_tokens=2) == pytest.approx(policy_law(max_tokens=2), abs=1e-12)


def test_a_reward_leaves_the_law_alone() -> None:
    assert asyncio.run(law(bind(Sample(reward="worth"), MODELS))) == pytest.approx(policy_law(), abs=1e-12)


def test_results_are_independent() -> None:
    sampling = Sampling(n=2, max_tokens=2)
    one = policy_law(max_tokens=2)
    want = {(a, b): p * q for a, p in one.items() for b, q in one.items()}
    assert asyncio.run(joint_law(bind(Sample(), MODELS, sampling))) == pytest.approx(want, abs=1e-12)


def test_rewards_cost_and_divergence_are_reported() -> None:
    decoder = Sample(reward={"worth": 1.0, "brevity": 0.5}, return_kl=True)
    for _, end in asyncio.run(every_path(bind(decoder, MODELS, Sampling(n=2, max_tokens=2)))):
        last = done(end)
        for result in last.results:
            tokens = result.candidate.tokens
            words = sum(t != EOS for t in tokens)
            assert result.rewards == {"worth": ToyReward().of(tokens), "brevity": -words}
            assert result.kl == KL(0.0, "exact", pointwise=True)
        drawn = sum(len(r.candidate.tokens) for r in last.results)
        assert (last.cost.candidates, last.cost.generated_tokens, last.cost.scored_tokens) == (2, drawn, 2 * drawn)


def test_check_refuses_the_same_answer_twice_and_unknown_rewards() -> None:
    Sample().check(MODELS, Sampling(n=1, temperature=0))
    for decoder, sampling, field in (
        (Sample(), Sampling(n=2, temperature=0), "sampling.n"),
        (Sample(reward="absent"), Sampling(), "strategy.reward"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            decoder.check(MODELS, sampling)
        assert refused.value.field == field


def test_no_reward_is_scored_unless_named() -> None:
    for _, end in asyncio.run(every_path(bind(Sample(), MODELS, Sampling(temperature=0)))):
        assert [r.rewards for r in done(end).results] == [{}]
        assert done(end).cost.scored_tokens == 0


def test_pieces_are_tokens_as_they_are_made_and_join_to_the_whole() -> None:
    async def pieces(stream: bool) -> tuple[list[Candidate], Done]:
        sampling = Sampling(stream=stream, logprobs=1)
        events = [e async for e in Sample().decode(PROMPT, MODELS, sampling, SeededRng(3))]
        *steps, last = events
        assert isinstance(last, Done)
        return [s.piece for s in steps if isinstance(s, Step)], last

    whole, one = asyncio.run(pieces(stream=False))
    parts, many = asyncio.run(pieces(stream=True))
    assert len(whole) == 1
    assert len(parts) == len(whole[0].tokens) > 1
    assert [p.finish for p in parts[:-1]] == [None] * (len(parts) - 1)
    assert "".join(p.text for p in parts) == whole[0].text
    assert joined(parts) == many.results[0].candidate.logprobs == one.results[0].candidate.logprobs
    assert many.results == one.results


def joined(parts: Sequence[Candidate]) -> tuple[object, ...]:
    return tuple(entry for p in parts for entry in p.logprobs or ())
