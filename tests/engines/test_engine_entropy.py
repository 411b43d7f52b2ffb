"""Segments on vLLM end at the entropy that Transformers has of a law over 49,152 tokens, and make up that law."""

import asyncio
import math
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from decoders import Cascade
from decoders.cascade import CascadeInfo
from decoders.core import EMPTY, Candidate, Prompt, Sampling, Tokens
from decoders.events import Done
from decoders.models import Models
from decoders.policy import EntropyStop
from decoders.rng import SeededRng
from server.engines.policy import VllmPolicy
from server.loading import Loaded, build
from server.settings import Settings
from tests.support.fakes import giving
from tests.support.large_vocabulary import LONGEST, WORDS, make_large_vocabulary_models
from tests.support.reference import Reference

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
T = TypeVar("T")
PROMPTS = [(5, 900, 31, 40_000), (7, 7, 300)]
ways = pytest.mark.parametrize("guides", [{}, {"weak": 0.7}], ids=["plain", "guided"])


@dataclass
class Engines:
    """The policy on engines of its own, and what Transformers says of it."""

    loaded: Loaded
    reference: Reference
    runner: "asyncio.Runner"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def policy(self) -> VllmPolicy:
        policy = self.loaded.models.policy
        assert isinstance(policy, VllmPolicy)
        return policy

    def entropies(self, prompt: Tokens, drawn: Tokens, guides: dict[str, float]) -> list[float]:
        """Of the law of each of `drawn`, in nats."""
        laws = self.reference.law([*prompt, *drawn], guides)[len(prompt) - 1 : -1].double()
        return [-float((row.exp() * row).sum()) for row in laws]

    async def grow(
        self, prompt: Tokens, prefix: Candidate, tokens: int, sampling: Sampling, entropy_stop: EntropyStop
    ) -> Candidate:
        """One continuation; what it took is all in it."""
        grown = self.policy.extend(
            Prompt(prompt, ""), prefix, 1, tokens, sampling, SeededRng(1), entropy_stop=entropy_stop
        )
        async with aclosing(grown) as samples:
            async for _, whole, drawn in samples:
                assert drawn == len(whole.tokens) - len(prefix.tokens)
        return whole


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    models = make_large_vocabulary_models(tmp_path_factory.mktemp("large"))
    engine = {"dtype": "float32", "max_model_len": LONGEST, "kv_cache_memory_bytes": 2**27, "enforce_eager": True}
    settings = Settings.model_validate(
        {
            "policy": {"model": str(models["policy"]), "engine": engine},
            "guides": {"weak": {"kind": "arm", "model": str(models["guide"])}},
            "guided_engine": {},
        }
    )
    with asyncio.Runner() as runner:
        loaded = build(settings)
        try:
            yield Engines(loaded, Reference(models["policy"], {"weak": models["guide"]}), runner)
        finally:
            runner.run(loaded.aclose())
            for one in loaded.engines.values():
                one.engine_core.resources.ctx.destroy(linger=0)  # vLLM leaves it open, which is a warning


@ways
def test_the_entropy_is_that_of_transformers(engines: Engines, guides: dict[str, float]) -> None:
    """A threshold 1e-3 below it ends the segment there, and one 1e-3 above it does not."""
    sampling = Sampling(temperature=0.0, max_tokens=64, guides=guides, ignore_eos=True)
    seen: list[float] = []

    async def ends(prompt: Tokens, want: Tokens, at: int, threshold: float) -> bool:
        whole = await engines.grow(prompt, EMPTY, at + 1, sampling, EntropyStop(threshold, at))
        assert whole.tokens == want[: len(whole.tokens)]
        assert whole.finish is None
        return len(whole.tokens) == at

    async def both(prompt: Tokens, want: Tokens, at: int, entropy: float) -> tuple[bool, bool]:
        return await ends(prompt, want, at, entropy - 1e-3), await ends(prompt, want, at, entropy + 1e-3)

    async def all_of(prompt: Tokens) -> list[tuple[bool, bool]]:
        tokens = tuple(engines.reference.greedy(prompt, guides, 17)[0])
        entropies = engines.entropies(prompt, tokens, guides)
        seen.extend(entropies[1:])
        return await asyncio.gather(*(both(prompt, tokens, i, entropies[i]) for i in range(1, 17)))

    for prompt in PROMPTS:
        assert engines.run(all_of(prompt)) == [(True, False)] * 16
    assert min(seen) < 3.0 < 3.045 < 8.4 < max(seen)


@ways
@pytest.mark.parametrize("threshold", [3.0, 5.0, 9.0])
def test_greedy_segments_end_before_the_uncertain_tokens(
    engines: Engines, guides: dict[str, float], threshold: float
) -> None:
    prompt, least = PROMPTS[0], 2
    sampling = Sampling(temperature=0.0, max_tokens=24, guides=guides, ignore_eos=True)
    tokens = tuple(engines.reference.greedy(prompt, guides, 24)[0])
    entropies = engines.entropies(prompt, tokens, guides)
    want = [0]
    while want[-1] < 24:
        start = want[-1]
        want.append(next((i for i in range(start + least, 24) if entropies[i] >= threshold), 24))

    async def lengths() -> list[int]:
        whole, ends = EMPTY, [0]
        while whole.finish is None:
            whole = await engines.grow(prompt, whole, 24, sampling, EntropyStop(threshold, least))
            ends.append(len(whole.tokens))
        assert whole.tokens == tokens
        return ends

    assert engines.run(lengths()) == want
    assert threshold == 9.0 or len(want) > 2


@pytest.mark.parametrize("stop", [(), ("never there",)], ids=["", "stop strings"])
@ways
def test_log_probabilities_are_of_the_tokens_drawn(
    engines: Engines, guides: dict[str, float], stop: tuple[str, ...]
) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=12, guides=guides, ignore_eos=True, logprobs=2, stop=stop)

    async def drawn() -> Candidate:
        whole = EMPTY
        while whole.finish is None:
            whole = await engines.grow(PROMPTS[1], whole, 12, sampling, EntropyStop(4.0))
        return whole

    whole = engines.run(drawn())
    assert whole.logprobs is not None
    assert tuple(entry.token for entry in whole.logprobs) == whole.tokens
    want = engines.reference.logprobs(PROMPTS[1], whole.tokens, guides)
    assert [entry.logprob for entry in whole.logprobs] == pytest.approx(want, abs=1e-3)
    assert [entry.top[0].token for entry in whole.logprobs] == list(whole.tokens)


@ways
@pytest.mark.parametrize("threshold", [0.0, 5.0, 99.0])
@pytest.mark.parametrize("more", [{}, {"stop_token_ids": (77,)}], ids=["end", "stop token"])
def test_no_answer_ends_before_its_least_length(
    engines: Engines, guides: dict[str, float], threshold: float, more: dict[str, Any]
) -> None:
    """Both the end and the stop token are by far the likeliest, all the time."""
    ends = (77, 1) if more else (1,)
    bias = {token: 100.0 - 20 * i for i, token in enumerate(ends)}
    sampling = Sampling(temperature=0.0, max_tokens=12, min_tokens=5, logit_bias=bias, guides=guides, **more)
    want: list[int] = []
    for _ in range(5):
        row = engines.reference.law([*PROMPTS[1], *want], guides)[-1]
        row[list(ends)] = -math.inf
        want.append(int(row.argmax()))

    async def drawn() -> Candidate:
        whole = EMPTY
        while whole.finish is None:
            whole = await engines.grow(PROMPTS[1], whole, 12, sampling, EntropyStop(threshold))
        return whole

    whole = engines.run(drawn())
    assert whole.tokens == (*want, ends[0])
    assert (whole.finish, whole.stop) == ("stop", 77 if more else None)


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
        for seed in range(48):
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
    assert chi2(counts, by_definition(engines, prompt, replace(sampling, temperature=temperature * 0.8), 3)) < 1e-6


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


def test_the_vocabulary_is_full(engines: Engines) -> None:
    """So that no id is left over to be reserved, which would make all this easy."""
    assert len(engines.loaded.text.tokenizer) == WORDS  # type: ignore[attr-defined]
