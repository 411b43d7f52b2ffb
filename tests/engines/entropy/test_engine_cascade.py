"""The cascade in a real engine: its law, and its default threshold."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from decoders import Cascade
from decoders.cascade import CascadeInfo
from decoders.core import Prompt, Sampling, Tokens
from decoders.events import Done
from decoders.models import Models
from decoders.rng import SeededRng
from tests.support.entropy_engines import PROMPTS, Engines, ways
from tests.support.fakes import giving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def by_definition(engines: Engines, prompt: Tokens, sampling: Sampling, tokens: int) -> dict[Tokens, float]:
    """The law of the first `tokens` tokens, end included, from Transformers' logits."""
    done: dict[Tokens, float] = {}
    todo: dict[Tokens, float] = {(): 1.0}
    while todo:
        prefix, p = todo.popitem()
        if len(prefix) == tokens or (prefix and prefix[-1] == 1):
            done[prefix] = p
            continue
        row = engines.reference.law([*prompt, *prefix], dict(sampling.guides))[-1].double()
        scores = {t: (float(row[t]) + bias) / sampling.temperature for t, bias in sampling.logit_bias.items()}
        top = max(scores.values())
        mass = math.fsum(math.exp(v - top) for v in scores.values())
        todo.update({(*prefix, t): p * math.exp(v - top) / mass for t, v in scores.items()})
    return done


def chi2(counts: "Counter[Tokens]", law: dict[Tokens, float]) -> float:
    """The p-value, cells with few expected put together."""
    from scipy.stats import chisquare

    total = counts.total()
    assert set(counts) <= set(law)
    rare = [y for y, p in law.items() if p * total < 5]
    cells = [(counts[y], p * total) for y, p in law.items() if p * total >= 5]
    if rare:
        cells.append((sum(counts[y] for y in rare), total * math.fsum(law[y] for y in rare)))
    seen, expected = zip(*cells, strict=True)
    return float(chisquare(seen, [e * total / sum(expected) for e in expected]).pvalue)


@ways
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_cascade_that_accepts_everything_samples_the_policy(
    engines: Engines, guides: dict[str, float], temperature: float
) -> None:
    """Biases leave six tokens: the end, and both that are reserved, which the policy then draws as themselves, too."""
    prompt = PROMPTS[0]
    reserved = engines.policy._signal_candidates[:2]
    words = [1, *reserved, 500, 12_345, 49_000]
    row = engines.reference.law(prompt, guides)[-1]
    bias = {t: 100.0 - float(row[t] - row[words].max()) for t in words}  # about alike, at the first token
    bias = {t: min(100.0, b - max(bias.values()) + 100.0) for t, b in bias.items()}
    sampling = Sampling(temperature=temperature, max_tokens=3, logit_bias=bias, guides=guides, n=64)
    models = Models(engines.policy, {"default": giving(0.0)})
    second = sorted(engines.entropies(prompt, (token, 0), guides)[1] for token in words if token != 1)
    decoder = Cascade(
        accept_threshold=-1.0,
        accept_start=-1.0,
        entropy_threshold=(second[1] + second[2]) / 2,  # so that the first token decides
        min_segment_tokens=1,
        batch=1,
        guides=guides,
    )

    async def draws() -> tuple[Counter[Tokens], Counter[int]]:
        counts: Counter[Tokens] = Counter()
        rounds: Counter[int] = Counter()
        for seed in range(24):
            async for event in decoder.decode(Prompt(prompt, ""), models, sampling, SeededRng(seed)):
                last = event
            assert isinstance(last, Done)
            assert last.cost.generated_tokens == sum(len(r.candidate.tokens) for r in last.results)
            counts.update(r.candidate.tokens for r in last.results)
            rounds.update(r.diagnostics(CascadeInfo).rounds for r in last.results)
        return counts, rounds

    counts, rounds = engines.run(draws())
    assert len(rounds) > 1  # some are cut, and some are not
    assert chi2(counts, by_definition(engines, prompt, sampling, 3)) > 1e-3
    assert all(any(token in y for y in counts) for token in words)
    assert chi2(counts, by_definition(engines, prompt, replace(sampling, temperature=temperature * 0.6), 3)) < 1e-6


def test_the_default_threshold_is_met_on_such_a_vocabulary(engines: Engines) -> None:
    models = Models(engines.policy, {"default": giving(0.0)})
    decoder = Cascade(accept_threshold=-1.0, accept_start=-1.0)

    async def rounds() -> int:
        sampling = Sampling(max_tokens=32, ignore_eos=True)
        async for event in decoder.decode(Prompt(PROMPTS[0], ""), models, sampling, SeededRng(0)):
            last = event
        assert isinstance(last, Done)
        return last.results[0].diagnostics(CascadeInfo).rounds

    assert 2 < engines.run(rounds()) <= 32 // 4
