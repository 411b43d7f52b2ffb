"""Rows that stop at an entropy: the arithmetic on logits, and which row it is done to in both of vLLM's runners."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.platforms import current_platform
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from decoders.core import Sampling
from decoders.errors import InvalidRequest
from server.engines.entropy import load
from server.engines.entropy.processor import EntropyStopProcessor
from server.engines.entropy.processor_v2 import EntropyStopProcessorV2
from server.engines.entropy.request_args import EntropyArgs, Signals, check, entropy_args
from server.engines.entropy.signal_tokens import choose_signals, signal_candidates
from server.engines.entropy.stop_logits import NEGLIGIBLE, EntropyRow, apply_entropy_stops, entropy
from server.engines.policy import VllmPolicy
from server.engines.text.model_text import ModelText

WORDS = 49_152
RARE = Signals(3, 5)  # in `law`, of a probability that float32 takes for 0
CPU = torch.device("cpu")


def law(rows: int = 1, spread: float = 3.0, seed: int = 0, words: int = 64) -> torch.Tensor:
    logits = torch.randn(rows, words, generator=torch.Generator().manual_seed(seed)) * spread
    logits[:, [RARE.entropy, RARE.collision]] = -60.0
    return logits


def nats(row: torch.Tensor) -> float:
    logs = row.double().log_softmax(-1)
    return -float((logs.exp() * logs).nan_to_num(0.0).sum())


def only(logits: torch.Tensor) -> list[int]:
    """The tokens that a row may draw."""
    return torch.isfinite(logits).nonzero().flatten().tolist()


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


def ask(threshold: float | None, **more: Any) -> SamplingParams:
    params = SamplingParams(temperature=1.0, **more)
    if threshold is not None:
        EntropyArgs(threshold, 1, params.min_tokens, RARE).put_into(params)
    return params


def added(place: int, params: SamplingParams, drawn: list[int]) -> tuple[int, SamplingParams, list[int], list[int]]:
    return place, params, [1, 2, 3], drawn


def test_a_request_stops_at_its_signals_and_leaves_the_least_length_to_the_processor() -> None:
    params = ask(2.5, stop_token_ids=[7], min_tokens=4, max_tokens=9, extra_args={"other": 1})
    assert entropy_args(params.extra_args) == EntropyArgs(2.5, 1, 4, RARE)
    assert params.extra_args["other"] == 1
    assert params.stop_token_ids == [7, RARE.entropy, RARE.collision]
    assert params.min_tokens == 0


def test_the_first_runner_follows_requests_as_rows_move() -> None:
    processor = EntropyStopProcessor(None, CPU, False)
    assert not processor.is_argmax_invariant()
    drawn: list[int] = [8]
    rows = [added(0, ask(0.0), drawn), added(1, ask(None), [8]), added(2, ask(99.0), [8])]
    processor.update_state(BatchUpdate(3, [], rows, []))

    def cuts() -> list[bool]:
        return [only(row) == [RARE.entropy] for row in processor.apply(law(3))]

    assert cuts() == [True, False, False]
    processor.update_state(BatchUpdate(3, [], [], [(0, 2, MoveDirectionality.SWAP)]))
    assert cuts() == [False, False, True]
    processor.update_state(None)
    drawn.clear()  # as vLLM's own list of what the request has drawn
    assert cuts() == [False, False, False]
    drawn.append(9)
    processor.update_state(BatchUpdate(2, [0], [], [(2, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    assert cuts() == [True, False, False]
    processor.update_state(BatchUpdate(2, [], [added(0, ask(None), [])], []))
    logits = law(3)
    assert torch.equal(processor.apply(logits.clone()), logits)


def test_a_large_batch_is_cut_in_parts() -> None:
    processor = EntropyStopProcessor(None, CPU, False)
    asking = [i for i in range(100) if i % 3]
    processor.update_state(BatchUpdate(100, [], [added(i, ask(0.0 if i % 2 else 99.0), [8]) for i in asking], []))
    have = [only(row) == [RARE.entropy] for row in processor.apply(law(100))]
    assert have == [i % 3 > 0 and i % 2 == 1 for i in range(100)]


def second() -> EntropyStopProcessorV2:
    lengths = SimpleNamespace(np=torch.tensor([5, 5, 7, 5]).numpy())
    return EntropyStopProcessorV2(None, SimpleNamespace(prompt_len=lengths))


def test_the_second_runner_finds_requests_by_their_slots() -> None:
    processor = second()
    assert processor.add_request(2, ask(0.0))
    assert not processor.add_request(0, ask(None))
    assert processor.add_request(3, ask(0.0))
    slots, lengths = torch.tensor([3, 0, 2]).numpy(), torch.tensor([5, 9, 8]).numpy()
    context = SimpleNamespace(idx_mapping_np=slots, seq_lens_upper_bound_np=lengths)
    logits = law(3)
    have = processor.apply(logits.clone(), context)
    assert [only(row) == [RARE.entropy] for row in have] == [False, False, True]  # slot 3 has drawn nothing yet
    assert torch.equal(have[1], logits[1])
    assert not processor.add_request(2, ask(None))
    assert only(processor.apply(logits.clone(), context)[2]) == only(logits[2])


@pytest.mark.parametrize("processor", [EntropyStopProcessor, EntropyStopProcessorV2])
def test_what_is_not_asked_rightly_is_refused(processor: type[EntropyStopProcessor | EntropyStopProcessorV2]) -> None:
    for wrong in ("abc", 3, [1.0], ["x", 1, 0, 3, 5], [1.0, 1, 0, 3, -5], [1.0, 1.5, 0, 3, 5], [1.0, 1, 0, 3, 5, 6]):
        with pytest.raises(ValueError, match="must be"):
            processor.validate_params(SamplingParams(extra_args={"decant_entropy_stop": wrong}))
    check({"another": "x"})
    processor.validate_params(ask(3))
    processor.validate_params(ask(None))


def tokenizer(tokens: int, special: list[int], named: list[int]) -> Any:
    return SimpleNamespace(
        get_vocab=lambda: {str(i): i for i in range(tokens)},
        all_special_ids=named,
        added_tokens_decoder={i: SimpleNamespace(special=True) for i in special},
    )


def test_padding_is_reserved_before_special_tokens_and_those_before_words() -> None:
    words = tokenizer(8, [0, 1, 2, 3], [0, 1])
    assert signal_candidates(words, 10, {1}) == [8, 9, 3, 2, 0, 7, 6, 5, 4]
    assert signal_candidates(words, 8, {1, 3}) == [2, 0, 7, 6, 5, 4]
    assert choose_signals([8, 9, 3, 2], [9]) == Signals(8, 3)
    with pytest.raises(InvalidRequest) as raised:
        choose_signals([8, 9], [9])
    assert raised.value.field == "stop_token_ids"


def config(speculative: object = None, *, second: bool = False, own: list[str] | None = None) -> Any:
    return SimpleNamespace(
        speculative_config=speculative,
        use_v2_model_runner=second,
        model_config=SimpleNamespace(logits_processors=own),
    )


def test_an_engine_gets_the_processor_of_its_runner_behind_its_own() -> None:
    for made, want in (
        (config(), [load.V1]),
        (config(second=True), [load.V2]),
        (config(own=["a:B"]), ["a:B", load.V1]),
        (config(object()), None),
    ):
        load.load(made)
        assert made.model_config.logits_processors == want
    assert load.unsupported_reason(config()) is None
    assert "speculatively" in str(load.unsupported_reason(config(object())))


def test_a_platform_without_logits_processors_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_platform, "is_tpu", lambda: True, raising=False)
    assert "TPU" in str(load.unsupported_reason(config()))


def policy(plain: object = None, guided: object = None) -> VllmPolicy:
    """On two engines, with what each has for speculative decoding."""

    def engine(speculative: object) -> Any:
        model = SimpleNamespace(try_get_generation_config=lambda: {"eos_token_id": [1, 2]})
        words = SimpleNamespace(eos_token_id=1)
        return SimpleNamespace(vllm_config=config(speculative), model_config=model, get_tokenizer=lambda: words)

    text = ModelText(tokenizer(8, [0, 3], []), 64, 8)
    return VllmPolicy(engine(plain), "two", text, guided=engine(guided))


def test_an_engine_that_decodes_speculatively_refuses_a_cut() -> None:
    for made, refused, taken in (
        (policy(plain=object()), Sampling(), Sampling(guides={"kind": 1.0})),
        (policy(guided=object()), Sampling(guides={"kind": 1.0}), Sampling()),
    ):
        made.check_entropy_stop(taken)
        with pytest.raises(InvalidRequest, match="speculatively") as raised:
            made.check_entropy_stop(refused)
        assert raised.value.field == "decoding.strategy"


def test_a_request_that_stops_at_all_other_tokens_is_refused() -> None:
    policy().check_entropy_stop(Sampling(stop_token_ids=(0, 3, 4, 5)))
    with pytest.raises(InvalidRequest) as raised:
        policy().check_entropy_stop(Sampling(stop_token_ids=(0, 3, 4, 5, 6)))
    assert raised.value.field == "stop_token_ids"
