"""Stopping at an entropy in an engine: requests, logits processors, signals, and engines that cannot do it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
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
from server.engines.policy import VllmPolicy
from server.engines.text.model_text import ModelText
from tests.support.entropy_logits import RARE, law, only

CPU = torch.device("cpu")


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
    assert raised.value.field == "sampling.stop_token_ids"


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


def test_an_engine_of_another_server_refuses_unless_it_has_the_processor() -> None:
    assert "decant vllm-args" in str(load.refusal(config(own=["another:Processor"])))
    assert "decant vllm-args" in str(load.refusal(config()))
    assert load.refusal(config(own=["another:Processor", load.V2])) is None
    assert "speculatively" in str(load.refusal(config(object(), own=[load.V1])))


def policy(plain: object = None, guided: object = None) -> VllmPolicy:
    """On two engines, with what each has for speculative decoding."""

    def engine(speculative: object) -> Any:
        model = SimpleNamespace(try_get_generation_config=lambda: {"eos_token_id": [1, 2]})
        words = SimpleNamespace(eos_token_id=1)
        loaded = config(speculative, own=[load.V1])
        return SimpleNamespace(vllm_config=loaded, model_config=model, get_tokenizer=lambda: words)

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
        assert raised.value.field == "strategy.strategy"


def test_a_request_that_stops_at_all_other_tokens_is_refused() -> None:
    policy().check_entropy_stop(Sampling(stop_token_ids=(0, 3, 4, 5)))
    with pytest.raises(InvalidRequest) as raised:
        policy().check_entropy_stop(Sampling(stop_token_ids=(0, 3, 4, 5, 6)))
    assert raised.value.field == "sampling.stop_token_ids"
