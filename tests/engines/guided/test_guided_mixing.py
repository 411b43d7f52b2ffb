"""The arithmetic of guiding: mixed logits are the law by its definition, and every row is told whose it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from server.engines.guided.mixing import BASE, DIGITS, mix, rows_of, tags

TYPES = [torch.float32, torch.bfloat16, torch.float16]


def scores(seed: int, rows: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 5).to(dtype)


def weighted(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    weights=st.lists(st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    dtype=st.sampled_from(TYPES),
)
def test_mixed_logits_are_the_weighted_log_softmaxes(seed: int, weights: list[list[float]], dtype: torch.dtype) -> None:
    """In float64, whatever type the logits came in."""
    logits = [scores(seed + j, len(weights), 11, dtype) for j in range(3)]
    w = weighted(weights)
    want = sum((w[:, j : j + 1].double() * logits[j].double().log_softmax(-1) for j in range(3)), torch.tensor(0.0))
    for some_plain in (False, True):
        mixed = mix(logits[0].clone(), logits[1:], w, some_plain=some_plain)
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed.double().log_softmax(-1), want.log_softmax(-1), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_plain_row_keeps_the_policys_logits_to_the_last_bit(wrong: float, dtype: torch.dtype) -> None:
    policy, one, two = (scores(j, 3, 7, dtype) for j in range(3))
    one[0], two[2, 3] = wrong, wrong
    w = weighted([[1, 0, 0.5], [1, 0, 0], [1, 2, 0]])
    mixed = mix(policy.clone(), [one, two], w, some_plain=True)
    assert torch.equal(mixed[1], policy[1].float())
    assert torch.isfinite(mixed).all(), "a column of weight zero is not looked at"
    torch.testing.assert_close(mixed[0], policy[0].float() + 0.5 * two[0].float())


def test_a_column_that_nobody_uses_is_none() -> None:
    policy, other = scores(0, 2, 5), scores(1, 2, 5)
    w = weighted([[1, 0, 2], [0.5, 0, -1]])
    mixed = mix(policy.clone(), [None, other], w, some_plain=False)
    torch.testing.assert_close(mixed, w[:, :1] * policy + w[:, 2:] * other)


def test_a_longer_vocabulary_is_cut_and_a_shorter_one_rules_out_what_it_lacks() -> None:
    policy, longer, shorter = scores(0, 3, 6), scores(1, 3, 9), scores(2, 3, 4)
    w = weighted([[1, 2, 0], [1, 0, -3], [1, 0, 0]])
    mixed = mix(policy.clone(), [longer, shorter], w, some_plain=True)
    torch.testing.assert_close(mixed[0], policy[0] + 2 * longer[0, :6])
    torch.testing.assert_close(mixed[1, :4], policy[1, :4] - 3 * shorter[1])
    assert mixed[1, 4:].tolist() == [-torch.inf] * 2, "for a negative weight too"
    assert torch.equal(mixed[2], policy[2])


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=700),
    padding=st.integers(0, 9),
    dtype=st.sampled_from(TYPES),
)
def test_tags_name_the_row_of_each_token(lengths: list[int], padding: int, dtype: torch.dtype) -> None:
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0).int()
    rows = [row for row, length in enumerate(lengths) for _ in range(length)]
    count = len(rows) + padding
    marked = tags(starts, count, torch.empty(0, dtype=dtype))
    assert (marked.shape, marked.dtype) == ((count, DIGITS), dtype)
    assert rows_of(marked).tolist() == rows + [len(lengths)] * padding
    order = torch.randperm(count)
    assert rows_of(marked[order]).tolist() == [(rows + [len(lengths)] * padding)[i] for i in order]


@pytest.mark.parametrize("dtype", TYPES)
def test_tags_reach_beyond_what_a_short_float_counts_to(dtype: torch.dtype) -> None:
    """bfloat16 knows no integer between 256 and 258."""
    rows = 5 * BASE
    marked = tags(torch.arange(rows + 1, dtype=torch.int32), rows, torch.empty(0, dtype=dtype))
    assert rows_of(marked).tolist() == list(range(rows))
