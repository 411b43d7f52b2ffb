"""Segments in a real engine end where the entropy that Transformers computes is at the threshold."""

import asyncio
import math
from typing import Any

import pytest

from decoders.core import EMPTY, Candidate, Sampling, Tokens
from decoders.policy import EntropyStop
from tests.support.entropy_engines import PROMPTS, Engines, ways
from tests.support.large_vocabulary import WORDS

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


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


def test_the_vocabulary_is_full(engines: Engines) -> None:
    """So that no id is left over to be reserved, which would make all this easy."""
    assert len(engines.loaded.text.tokenizer) == WORDS  # type: ignore[attr-defined]
