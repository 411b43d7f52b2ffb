"""What each row of the batch asks for, through all that vLLM does with rows, in both of its runners."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.sample.logits_processor.state import BatchUpdateBuilder

from server.engines.guided.processor import GuidedRows
from server.engines.guided.processor_v2 import GuidedLogits
from server.engines.guided.row_weights import KEY, RowWeights, row_weights_of

ROWS, COLUMNS = 6, 2
PLAIN = [1.0, 0.0, 0.0]
Weights = list[float] | None
CPU = torch.device("cpu")

asked = st.none() | st.lists(st.sampled_from([0.0, 0.5, -1.0, 2.0]), min_size=1 + COLUMNS, max_size=1 + COLUMNS)


def config(columns: int = COLUMNS) -> Any:
    """As much of vLLM's configuration as the rows read."""
    return SimpleNamespace(
        compilation_config=SimpleNamespace(),
        model_config=SimpleNamespace(hf_config=SimpleNamespace(decant_columns=[{}] * columns)),
        scheduler_config=SimpleNamespace(max_num_seqs=ROWS),
    )


def params(weights: Weights) -> SamplingParams:
    return SamplingParams(extra_args=None if weights is None else {KEY: weights})


def agree(rows: RowWeights, batch: list[Weights]) -> None:
    """`rows` says of every row what the plain list says."""
    guided = [w for w in batch if w is not None]
    assert rows.requested == {i: w for i, w in enumerate(batch) if w is not None}
    assert rows.plain is (not guided)
    used = {j for w in guided for j in range(COLUMNS) if w[1 + j]}
    assert rows.used == used
    assert rows.mixed is (len(guided) < len(batch) or any(w[1 + j] == 0 for w in guided for j in used))
    if guided:
        want = [PLAIN if w is None else w for w in batch]
        assert rows.weights(torch.arange(len(batch))).tolist() == want
    assert rows.weights(torch.tensor([ROWS, ROWS + 5])).tolist() == [PLAIN] * 2, "padding is plain"


@st.composite
def steps(draw: Any) -> list[tuple[list[int], list[Weights], list[tuple[int, int]]]]:
    """Of each step: rows that leave, requests that come, and rows that are then swapped."""
    found = []
    size = 0
    for _ in range(draw(st.integers(1, 12))):
        gone = draw(st.sets(st.integers(0, size - 1))) if size else set()
        new = draw(st.lists(asked, max_size=ROWS - size + len(gone)))
        size += len(new) - len(gone)
        row = st.integers(0, max(size - 1, 0))
        swaps = (
            draw(st.lists(st.tuples(row, row).filter(lambda pair: pair[0] != pair[1]), max_size=3)) if size > 1 else []
        )
        found.append((sorted(gone), new, swaps))
    return found


@settings(max_examples=300, deadline=None)
@given(steps())
def test_rows_follow_vllms_persistent_batch(
    steps: list[tuple[list[int], list[Weights], list[tuple[int, int]]]],
) -> None:
    """vLLM's way: new requests fill the gaps, the last rows move into those that are left, and some swap."""
    held = config()
    processor = GuidedRows(held, CPU, False)
    assert processor.is_argmax_invariant()
    batch: list[Any] = []
    gap = object()
    for gone, new, swaps in steps:
        update = BatchUpdateBuilder()
        for i in gone:
            update.removed_append(i)
            batch[i] = gap
        for weights in new:
            i = update.pop_removed()
            if i is None:
                i = len(batch)
                batch.append(gap)
            batch[i] = weights
            update.added.append((i, params(weights), [], []))
        while gap in batch:
            if batch[-1] is gap:
                batch.pop()
                continue
            i = batch.index(gap)
            update.moved.append((len(batch) - 1, i, MoveDirectionality.UNIDIRECTIONAL))
            batch[i] = batch.pop()
        for i, j in swaps:
            batch[i], batch[j] = batch[j], batch[i]
            update.moved.append((i, j, MoveDirectionality.SWAP))
        processor.update_state(update.get_and_reset(len(batch)))
        agree(row_weights_of(held, CPU), batch)


def test_a_plain_request_takes_over_a_guided_row() -> None:
    held = config()
    processor = GuidedRows(held, CPU, False)
    for weights, other in (([1.0, 2.0, 0.0], None), (None, [1.0, 0.0, -1.0]), (None, None)):
        added: list[Any] = [(0, params(weights), [], []), (1, params(other), [], [])]
        processor.update_state(BatchUpdate(batch_size=2, removed=[], added=added, moved=[]))
        agree(row_weights_of(held, CPU), [weights, other])
    processor.update_state(None)
    agree(row_weights_of(held, CPU), [None, None])


def test_the_processor_changes_no_logits_and_the_engine_has_one_set_of_rows() -> None:
    held = config()
    assert not row_weights_of(held, CPU).known_before_forward
    processor = GuidedRows(held, CPU, False)
    assert row_weights_of(held, CPU) is row_weights_of(held, CPU)
    assert row_weights_of(held, CPU).known_before_forward
    logits = torch.randn(3, 5)
    assert processor.apply(logits) is logits


@pytest.mark.parametrize("processor", [GuidedRows, GuidedLogits])
def test_weights_that_are_no_numbers_are_refused(processor: type[GuidedRows | GuidedLogits]) -> None:
    for wrong in ("abc", 3, {"a": 1}, ["x"], [None], [[1.0]]):
        with pytest.raises(ValueError, match="must be a list of numbers"):
            processor.validate_params(SamplingParams(extra_args={KEY: wrong}))
    for right in (None, {}, {"another": "x"}, {KEY: None}, {KEY: [1, -0.5, 2.0]}):
        processor.validate_params(SamplingParams(extra_args=right))


def second(others: list[torch.Tensor | None]) -> GuidedLogits:
    held = config(len(others))
    processor = GuidedLogits(held, SimpleNamespace(device=CPU, max_num_reqs=ROWS))
    row_weights_of(held, CPU).guide_logits = others
    return processor


def context(slots: list[int]) -> Any:
    return SimpleNamespace(expanded_idx_mapping=torch.tensor(slots))


def test_the_second_runner_mixes_rows_by_their_requests_slots() -> None:
    slots = [4, 0, 0, 2, 4]  # two requests own two rows each, and slots are in no order
    policy, guide = torch.randn(5, 7), torch.randn(5, 7)
    processor = second([guide])
    assert processor.add_request(4, params([1.0, 2.0]))
    assert not processor.add_request(0, params(None))
    assert processor.add_request(2, params([0.5, -1.0]))
    processor.apply_staged_writes()
    weights = torch.tensor([[1.0, 2.0], [1.0, 0.0], [1.0, 0.0], [0.5, -1.0], [1.0, 2.0]])
    mixed = processor.apply(policy.clone(), context(slots))
    torch.testing.assert_close(mixed, weights[:, :1] * policy + weights[:, 1:] * guide)
    assert torch.equal(mixed[1:3], policy[1:3])


def test_a_slot_that_is_used_again_forgets_its_last_request() -> None:
    policy, guide = torch.randn(1, 7), torch.randn(1, 7)
    processor = second([guide])
    for weights in ([1.0, 2.0], None, [1.0, -3.0]):
        processor.add_request(3, params(weights))
        processor.apply_staged_writes()
        w = weights or [1.0, 0.0]
        torch.testing.assert_close(processor.apply(policy.clone(), context([3])), w[0] * policy + w[1] * guide)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, -2.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
def test_what_is_masked_stays_masked(weights: list[float]) -> None:
    policy = torch.randn(1, 7)
    policy[0, 2:4] = -torch.inf
    processor = second([torch.randn(1, 7)])
    processor.add_request(0, params(weights))
    processor.apply_staged_writes()
    [mixed] = processor.apply(policy.clone(), context([0]))
    assert torch.isneginf(mixed).tolist() == torch.isneginf(policy[0]).tolist()
    assert not mixed.isnan().any()
