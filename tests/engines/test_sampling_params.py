"""Every field of `Sampling` reaches vLLM by its name, or is one that Decant honours itself."""

from dataclasses import fields, replace

import pytest
from vllm import SamplingParams

from decoders.core import Grammar, Sampling
from server.engines.sampling_params import DECANTS_OWN, sampling_params
from tests.support.sampling import OTHER_VALUES


@pytest.mark.parametrize("name", sorted(OTHER_VALUES.keys() - DECANTS_OWN - {"n"}))
def test_a_field_reaches_vllm_by_its_name(name: str) -> None:
    value = OTHER_VALUES[name]
    params = sampling_params(replace(Sampling(), **{name: value}), 1, None, pieces=False)
    assert getattr(params, name) == (list(value) if isinstance(value, tuple) else value)


def test_what_is_decants_own_is_no_parameter_of_vllms() -> None:
    assert {f.name for f in fields(Sampling)} - set(SamplingParams.__struct_fields__) == DECANTS_OWN


def test_defaults_are_vllms_own() -> None:
    made, plain = sampling_params(Sampling(), 1, None, pieces=False), SamplingParams()
    names = [f.name for f in fields(Sampling) if f.name not in DECANTS_OWN]
    assert [getattr(made, name) for name in names] == [getattr(plain, name) for name in names]


def test_the_number_of_samples_and_the_seed_are_the_calls() -> None:
    params = sampling_params(Sampling(n=7), 3, 11, pieces=True)
    assert (params.n, params.seed) == (3, 11)


@pytest.mark.parametrize(
    ("grammar", "field", "value"),
    [
        (Grammar("json", {"type": "object"}), "json", {"type": "object"}),
        (Grammar("json_object"), "json_object", True),
        (Grammar("regex", "a+"), "regex", "a+"),
        (Grammar("choice", ("a", "b")), "choice", ["a", "b"]),
        (Grammar("grammar", "root ::= 'a'"), "grammar", "root ::= 'a'"),
        (Grammar("structural_tag", "{}"), "structural_tag", "{}"),
        (Grammar("json", '{"type": "object"}'), "json", '{"type": "object"}'),
    ],
)
def test_a_grammar_is_vllms_structured_output(grammar: Grammar, field: str, value: object) -> None:
    outputs = sampling_params(Sampling(grammar=grammar), 1, None, pieces=False).structured_outputs
    assert outputs is not None
    assert getattr(outputs, field) == value
