"""Rows that stop at an entropy: the arithmetic on logits."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engines.entropy.request_args import EntropyArgs
from server.engines.entropy.stop_logits import NEGLIGIBLE, EntropyRow, apply_entropy_stops, entropy
from tests.support.entropy_logits import RARE, law, only

WORDS = 49_152


def nats(row: torch.Tensor) -> float:
    logs = row.double().log_softmax(-1)
    return -float((logs.exp() * logs).nan_to_num(0.0).sum())


@settings(deadline=None)
@given(st.floats(0.01, 30.0), st.integers(0, 999), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_the_entropy_is_that_of_the_whole_law(spread: float, seed: int, dtype: torch.dtype) -> None:
    logits = law(3, spread, seed, 1000).to(dtype)
    logits[1, 7:] = -torch.inf
    want = [nats(row) for row in logits]
    assert entropy(logits.float()).tolist() == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("words", [2, 384, WORDS, 151_936])
def test_it_reaches_the_logarithm_of_the_vocabulary(words: int) -> None:
    assert float(entropy(torch.full((1, words), 7.0))) == pytest.approx(math.log(words), abs=1e-4)
    certain = torch.full((1, words), -torch.inf)
    certain[0, 1] = 90.0
    assert float(entropy(certain)) == 0.0


def test_a_row_at_its_threshold_draws_the_signal_and_nothing_else() -> None:
    logits = law(words=WORDS)
    h = nats(logits[0])
    assert h > 3.045  # more than 20 tokens and one for the rest can have
    for threshold, stops in ((h - 1e-3, True), (h + 1e-3, False), (0.0, True)):
        have = logits.clone()
        apply_entropy_stops(have, [0], [EntropyRow(EntropyArgs(threshold, 1, 0, RARE))], [1])
        if stops:
            assert only(have[0]) == [RARE.entropy]
            continue
        assert torch.isinf(have[0, [RARE.entropy, RARE.collision]]).all()
        have[0, [RARE.entropy, RARE.collision]] = logits[0, [RARE.entropy, RARE.collision]]
        assert torch.equal(have, logits)


def test_no_entropy_is_asked_for_before_the_least_length() -> None:
    logits = law(4)
    apply_entropy_stops(logits, [0, 1, 2, 3], [EntropyRow(EntropyArgs(0.0, 2, 0, RARE))] * 4, [0, 1, 2, 3])
    assert [only(row) == [RARE.entropy] for row in logits] == [False, False, True, True]


def test_rows_that_ask_nothing_keep_every_bit() -> None:
    logits = law(5)
    have = logits.clone()
    apply_entropy_stops(
        have, [3, 1], [EntropyRow(EntropyArgs(0.0, 0, 0, RARE)), EntropyRow(EntropyArgs(99.0, 0, 0, RARE))], [0, 0]
    )
    assert torch.equal(have[[0, 2, 4]], logits[[0, 2, 4]])
    assert only(have[3]) == [RARE.entropy]
    assert len(only(have[1])) == 62


@pytest.mark.parametrize("signal", [RARE.entropy, RARE.collision])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_a_row_that_could_draw_a_signal_as_itself_collides(signal: int, temperature: float) -> None:
    row = EntropyRow(EntropyArgs(99.0, 0, 0, RARE), temperature)
    for above, collides in ((0.1, True), (-0.1, False)):
        logits = law()
        if temperature:
            logits[0, signal] = logits.max() + (NEGLIGIBLE + above) * temperature
        else:
            logits[0, signal] = logits.max() + above
        apply_entropy_stops(logits, [0], [row], [0])
        assert (only(logits[0]) == [RARE.collision]) is collides
        assert collides or not torch.isfinite(logits[0, signal])


def test_the_threshold_goes_before_a_collision() -> None:
    logits = law()
    logits[0, RARE.collision] = 9.0
    apply_entropy_stops(logits, [0], [EntropyRow(EntropyArgs(0.0, 0, 0, RARE))], [0])
    assert only(logits[0]) == [RARE.entropy]


def test_the_entropy_is_of_the_law_without_biases_and_with_all_ends() -> None:
    logits = law()
    h = nats(logits[0])
    bias = {9: 60.0, 11: -100.0, 20: 2.5}
    biased = logits.clone()
    for token, value in bias.items():
        biased[0, token] += value
    row = EntropyRow(EntropyArgs(h + 1e-3, 0, 4, RARE), bias=bias, ends=[1, 2])
    below, at = biased.clone(), biased.clone()
    apply_entropy_stops(below, [0], [row], [3])
    apply_entropy_stops(at, [0], [replace(row, args=replace(row.args, entropy=h - 1e-3))], [3])
    assert only(at[0]) == [RARE.entropy]
    gone = [1, 2, RARE.entropy, RARE.collision]
    kept = [token for token in range(64) if token not in gone]
    assert only(below[0]) == kept
    assert torch.equal(below[0, kept], biased[0, kept])
    apply_entropy_stops(biased, [0], [row], [4])  # as many as there must be
    assert {1, 2} <= set(only(biased[0]))
