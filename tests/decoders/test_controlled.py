"""Blockwise controlled decoding on the exact toy: its law, at both extremes of the block too, and its refusals."""

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from decoders import Controlled
from decoders.controlled import ControlledInfo
from decoders.core import Candidate, Grammar, Sampling, Tokens
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.maths.logmath import best_of_n_kl
from decoders.models import Models
from decoders.parts.blocks import FinalText
from decoders.parts.selection import Argmax, Softmax
from decoders.testing import EOS, ToyBrevity, ToyGuide, ToyPolicy, ToyReward, bind, done, every_path, law
from tests.support import laws
from tests.support.fakes import giving

EXACT = 1e-9
POLICY = ToyPolicy(vocabulary=3, longest=3, loaded={"kind": ToyGuide((0.0, 1.0, -1.0))})
MODELS = Models(POLICY, {"default": ToyReward(), "brevity": ToyBrevity()})


def value(tokens: Tokens) -> float:
    return ToyReward().of(tokens)


def ended(tokens: Tokens, longest: int = 16) -> bool:
    return bool(tokens) and (tokens[-1] == EOS or len(tokens) == longest)


def extensions(prefix: Tokens, block: int, longest: int = 16, guides: Mapping[str, float] | None = None) -> Any:
    """Return the probability of every block after `prefix`, each with its prefix."""
    law: defaultdict[Tokens, float] = defaultdict(float)
    for y, p in POLICY.completions(max_tokens=longest, guides=guides).items():
        if y[: len(prefix)] == prefix:
            law[y[: len(prefix) + block]] += p
    z = math.fsum(law.values())
    return {y: p / z for y, p in law.items()}


def blockwise(k: int, block: int, weigh: laws.Weigh, longest: int = 16, **more: Any) -> dict[Tokens, float]:
    """Return the law of choosing one of k blocks again and again."""
    law: defaultdict[Tokens, float] = defaultdict(float)
    todo: list[tuple[Tokens, float]] = [((), 1.0)]
    while todo:
        y, p = todo.pop()
        if ended(y, longest):
            law[y] += p
            continue
        blocks = extensions(y, block, longest, **more)
        chosen = laws.chosen(blocks, k, laws.by({z: value(z) for z in blocks}, weigh))
        todo += [(z, p * q) for z, q in chosen.items()]
    return dict(law)


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_argmax_law(k: int, block: int, stream: bool) -> None:
    decoder = Controlled(candidates=k, block_tokens=block, reward="default")
    have = asyncio.run(law(bind(decoder, MODELS, Sampling(stream=stream))))
    assert have == pytest.approx(blockwise(k, block, laws.greatest), abs=EXACT)


@pytest.mark.parametrize("block", [1, 2])
def test_softmax_law(block: int) -> None:
    decoder = Controlled(candidates=2, block_tokens=block, reward="default", select=Softmax(beta=0.7))
    want = blockwise(2, block, laws.boltzmann(0.7))
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_a_block_is_cut_by_max_tokens() -> None:
    decoder = Controlled(candidates=2, block_tokens=1, reward="default")
    have = asyncio.run(law(bind(decoder, MODELS, Sampling(max_tokens=2))))
    assert have == pytest.approx(blockwise(2, 1, laws.greatest, longest=2), abs=EXACT)
    assert max(map(len, have)) == 2


@pytest.mark.parametrize("k", [2, 3])
def test_one_block_for_all_is_best_of_k(k: int) -> None:
    pi = POLICY.completions()
    want = laws.order_statistic(pi, {y: value(y) for y in pi}, k)
    decoder = Controlled(candidates=k, block_tokens=16, reward="default")
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_it_controls_the_guided_policy() -> None:
    guides = {"kind": 1.0}
    decoder = Controlled(candidates=2, block_tokens=1, reward="default", guides=guides)
    want = blockwise(2, 1, laws.greatest, guides=guides)
    assert asyncio.run(law(bind(decoder, MODELS))) == pytest.approx(want, abs=EXACT)


def test_beams_law() -> None:
    """Of the four blocks of two beams, the two best go on; a finished beam competes as it stands."""
    small = ToyPolicy(vocabulary=2, longest=3)
    models = Models(small, {"default": ToyReward()})

    def best_two(pool: list[Tokens]) -> list[tuple[tuple[Tokens, ...], float]]:
        ways: defaultdict[tuple[Tokens, ...], float] = defaultdict(float)
        for order in itertools.permutations(range(len(pool)), min(2, len(pool))):
            left, q = list(range(len(pool))), 1.0
            for i in order:
                weights = laws.greatest([value(pool[j]) for j in left])
                q *= weights[left.index(i)] / math.fsum(weights)
                left.remove(i)
            ways[tuple(pool[i] for i in order)] += q
        return [(beams, q) for beams, q in ways.items() if q > 0]

    def after(prefix: Tokens) -> list[tuple[Tokens, float]]:
        whole: defaultdict[Tokens, float] = defaultdict(float)
        for y, p in small.completions().items():
            if y[: len(prefix)] == prefix:
                whole[y[: len(prefix) + 1]] += p
        z = math.fsum(whole.values())
        return [(y, p / z) for y, p in whole.items()]

    want: defaultdict[Tokens, float] = defaultdict(float)
    todo: list[tuple[tuple[Tokens, ...], float]] = [(((),), 1.0)]
    while todo:
        beams, p = todo.pop()
        going = [beam for beam in beams if not ended(beam)]
        if not going:
            for (final,), q in [((b[0],), q) for b, q in best_two(list(beams))]:
                want[final] += p * q
            continue
        draws = [after(beam) for beam in going for _ in range(2)]
        for picks in itertools.product(*draws):
            pool = [beam for beam in beams if ended(beam)] + [y for y, _ in picks]
            chance = p * math.prod(q for _, q in picks)
            todo += [(kept, chance * q) for kept, q in best_two(pool)]
    decoder = Controlled(candidates=2, block_tokens=1, beams=2, reward="default")
    assert asyncio.run(law(bind(decoder, models))) == pytest.approx(want, abs=EXACT)


def test_a_block_ends_at_its_stop() -> None:
    """The word " bad" ends a block, so a block of up to three tokens ends at it or at its length."""
    decoder = Controlled(candidates=1, block_tokens=3, block_stop=[" bad"], reward="default", return_candidates=True)
    for _, end in asyncio.run(every_path(bind(decoder, MODELS))):
        [result] = done(end).results
        tokens = result.candidate.tokens
        blocks, since = 0, 0
        for i, token in enumerate(tokens):
            since += 1
            if token == 2 or since == 3 or i == len(tokens) - 1:
                blocks, since = blocks + 1, 0
        assert result.diagnostics(ControlledInfo).rounds == blocks


def test_the_divergence_is_bounded_by_that_of_each_block() -> None:
    decoder = Controlled(candidates=2, block_tokens=2, reward="default", return_kl=True)
    ends = asyncio.run(every_path(bind(decoder, MODELS)))
    bound = 0.0
    for p, end in ends:
        [result] = done(end).results
        assert result.kl is not None
        assert result.kl.estimator == "block_bound"
        assert result.kl.nats == pytest.approx(best_of_n_kl(2) * (result.diagnostics(ControlledInfo).rounds))
        bound += p * result.kl.nats
    assert laws.kl(blockwise(2, 2, laws.greatest), POLICY.completions()) <= bound


def test_several_results_are_independent_runs() -> None:
    decoder = Controlled(candidates=2, block_tokens=4, reward="default")
    ends = asyncio.run(every_path(bind(decoder, Models(ToyPolicy(3, 2), MODELS.rewards), Sampling(n=2))))
    pairs: defaultdict[tuple[Tokens, ...], float] = defaultdict(float)
    for p, end in ends:
        pairs[tuple(r.candidate.tokens for r in done(end).results)] += p
    alone = asyncio.run(law(bind(decoder, Models(ToyPolicy(3, 2), MODELS.rewards))))
    for (a, b), p in pairs.items():
        assert p == pytest.approx(alone[a] * alone[b], abs=EXACT)


def test_tokens_and_passes_are_counted() -> None:
    decoder = Controlled(candidates=2, block_tokens=1, reward={"default": 1.0, "brevity": 0.0})
    for _, end in asyncio.run(every_path(bind(decoder, Models(ToyPolicy(3, 2), MODELS.rewards)))):
        ended_ = done(end)
        rounds = ended_.results[0].diagnostics(ControlledInfo).rounds
        assert ended_.cost.candidates == 2 * rounds
        assert ended_.cost.generated_tokens == 2 * rounds
        assert ended_.cost.scored_tokens == 2 * 2 * sum(range(1, rounds + 1))


def test_without_a_finite_reward_it_fails() -> None:
    decoder = Controlled(candidates=2, block_tokens=1)
    ends = asyncio.run(every_path(bind(decoder, Models(ToyPolicy(3, 2), {"default": giving(math.nan)}))))
    assert all(isinstance(end, NoUsableReward) for _, end in ends)


@pytest.mark.parametrize(
    ("field", "sampling", "more"),
    [
        ("sampling.presence_penalty", Sampling(presence_penalty=0.5), {}),
        ("sampling.frequency_penalty", Sampling(frequency_penalty=0.5), {}),
        ("sampling.repetition_penalty", Sampling(repetition_penalty=1.2), {}),
        ("sampling.grammar", Sampling(grammar=Grammar("regex", "a")), {}),
        ("sampling.grammar", Sampling(grammar=Grammar("json_object")), {}),
        ("sampling.prompt_logprobs", Sampling(prompt_logprobs=0), {}),
        ("sampling.temperature", Sampling(temperature=0.0), {}),
        ("strategy.beams", Sampling(), {"beams": 5}),
        ("strategy.reward", Sampling(), {"reward": "none"}),
    ],
)
def test_what_blocks_cannot_honour_is_named(field: str, sampling: Sampling, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Controlled(**{"reward": "default", **more}).check(MODELS, sampling)
    assert raised.value.field == field


def test_pieces_hold_back_what_may_be_a_stop_string() -> None:
    tail = FinalText(("END",))
    first = tail.take(Candidate((1, 2), "go E"))
    second = tail.take(Candidate((1, 2, 3), "go EN"))
    last = tail.take(Candidate((1, 2, 3, 4), "go ", "stop", "END", trimmed=True))
    assert [first.text, second.text, last.text] == ["go", " ", ""]
    assert [first.tokens, second.tokens, last.tokens] == [(1, 2), (3,), (4,)]
    assert (last.finish, last.stop) == ("stop", "END")


def test_select_defaults_to_argmax() -> None:
    assert isinstance(Controlled().select, Argmax)
