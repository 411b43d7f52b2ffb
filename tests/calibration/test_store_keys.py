"""Which row a request's rollouts are in: what decides the rewards has rows of its own, and nothing else has."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from decoders.core import Prompt, Sampling
from server.calibration.keys import VERSION, model_identity, row_key
from server.settings import (
    ArmGuide,
    ClassifierReward,
    FunctionReward,
    HttpReward,
    ImplicitGuide,
    PolicySettings,
    ProcessReward,
    QHeadGuide,
    Section,
    Settings,
)
from server.settings.reading import read_settings
from tests.support.calibration_store import PROMPT, SAMPLING, keep, opened, store_of, stored
from tests.support.sampling import OTHER_VALUES
from tests.support.serving import Json


def test_another_value_of_any_sampling_parameter_is_another_row(path: Path) -> None:
    with opened(path) as store:
        keep(store, [1.0])
        for name, value in OTHER_VALUES.items():
            other = replace(SAMPLING, **{name: value})
            assert stored(store, sampling=other) == [], name
            keep(store, [2.0], sampling=other)
            assert stored(store, sampling=other) == [2.0], name
        assert stored(store) == [1.0]


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((1,), "good bad"),
        Prompt((2, 1), "good bad"),
        Prompt((1, 2), "good bad", ()),
        Prompt((1, 2), "good bad", ({"role": "user", "content": "good bad"},)),
        Prompt((1, 2), "good bad", continues=True),
    ],
)
def test_other_tokens_or_messages_are_another_row(path: Path, prompt: Prompt) -> None:
    with opened(path) as store:
        keep(store, [1.0])
        assert stored(store, prompt) == []
        keep(store, [2.0], prompt)
        assert (stored(store), stored(store, prompt)) == ([1.0], [2.0])


def test_the_same_tokens_are_the_same_row_however_they_are_written(path: Path) -> None:
    with opened(path) as store:
        keep(store, [1.0])
        assert stored(store, Prompt((1, 2), " good bad")) == [1.0]


def test_another_policy_or_judge_is_another_row_and_another_name_is_not(path: Path) -> None:
    with opened(path) as store, opened(path, "another policy") as other:
        keep(store, [1.0])
        assert stored(other) == []
        assert stored(store, reward="brevity") == []
        assert stored(store, reward="renamed") == [1.0]


SETTINGS: Json = {
    "policy": {"model": "models/policy", "engine": {"dtype": "float32"}},
    "guides": {"weak": {"kind": "arm", "model": "models/weak"}},
    "rewards": {
        "model": {"kind": "classifier", "model": "models/judge", "label": 1},
        "steps": {"kind": "process", "model": "models/steps"},
        "function": {"kind": "function", "function": "math:sqrt"},
        "remote": {"kind": "http", "url": "http://judge:8000/classify"},
        "guide": {"kind": "guide", "guide": "weak"},
    },
}
ALL = set(SETTINGS["rewards"])


def changed(where: str, value: object, path: Path) -> Settings:
    """The settings above, with another value at a dotted place."""

    def put(section: Json, keys: list[str]) -> Json:
        key, *rest = keys
        return {**section, key: put(section.get(key, {}), rest) if rest else value}

    return read_settings(**put({**SETTINGS, "calibration": {"store": path}}, where.split(".")))


@pytest.mark.parametrize(
    ("where", "value", "others"),
    [
        ("policy.model", "models/another", ALL),
        ("policy.engine.dtype", "bfloat16", ALL),
        ("policy.engine.quantization", "fp8", ALL),
        ("policy.engine.kv_cache_dtype", "fp8", ALL),
        ("policy.engine.tokenizer_revision", "main", ALL),
        ("policy.engine.max_num_seqs", 8, set()),
        ("policy.engine.gpu_memory_utilization", 0.5, set()),
        ("policy.name", "frozen", set()),
        ("rewards.model.model", "models/another", {"model"}),
        ("rewards.model.label", 0, {"model"}),
        ("rewards.model.activation", True, {"model"}),
        ("rewards.model.template", "policy", {"model"}),
        ("rewards.model.template", "none", {"model"}),
        ("rewards.steps.template", "own", {"steps"}),
        ("rewards.remote.template", "policy", {"remote"}),
        ("rewards.model.engine.dtype", "bfloat16", {"model"}),
        ("rewards.model.engine.max_num_seqs", 8, set()),
        ("rewards.model.timeout_s", 5, set()),
        ("rewards.model", {"kind": "process", "model": "models/judge", "label": 1}, {"model"}),
        ("rewards.steps.reduce", "min", {"steps"}),
        ("rewards.steps.step_tag", "<extra_0>", {"steps"}),
        ("rewards.function.function", "math:exp", {"function"}),
        ("rewards.function.max_batch", 8, set()),
        ("rewards.remote.url", "http://judge:8001/classify", {"remote"}),
        ("rewards.remote.retries", 3, set()),
        ("rewards.remote.api_key_env", "KEY", set()),
        ("guides.weak.model", "models/another", {"guide"}),
        ("guides.weak.base", "models/base", {"guide"}),
        ("guides.strong", {"kind": "arm", "model": "models/strong"}, set()),
        ("guided_engine", {"dtype": "bfloat16"}, set()),
        ("server.port", 9000, set()),
    ],
)
def test_what_changes_outputs_has_rows_of_its_own_and_nothing_else_has(
    path: Path, where: str, value: object, others: set[str]
) -> None:
    with store_of(changed("server", {}, path)) as one, store_of(changed(where, value, path)) as other:
        for name in ALL:
            keep(one, [1.0], reward=name)
        assert {name for name in ALL if not stored(other, reward=name)} == others


def key(sampling: Sampling = SAMPLING, policy: Section | None = None) -> bytes:
    return row_key(PROMPT, sampling, model_identity(policy or PolicySettings(model="models/policy")), "one reward")


@dataclass(frozen=True, slots=True)
class LaterSampling(Sampling):
    added: float = 0.5


class LaterPolicy(PolicySettings):
    added: float = 0.5


def test_a_field_that_is_added_with_a_default_changes_no_key() -> None:
    for name, value in [("n", 1), *OTHER_VALUES.items()]:
        assert key(LaterSampling(**{name: value})) == key(Sampling(**{name: value}))
    assert key(LaterSampling(added=1.0)) != key()
    assert key(policy=LaterPolicy(model="models/policy")) == key()
    assert key(policy=LaterPolicy(model="models/policy", added=1.0)) != key()


def test_a_key_is_the_same_in_every_version_of_the_server() -> None:
    """Whoever changes the form of keys says so in CHANGELOG.md: what was stored before is not found."""
    assert key().hex() == "e22f0b39834c29152d87d5d6e774138a3837b85a531f8c7c7b621a9259fccc78"
    changed = PolicySettings(model="models/policy", engine={"dtype": "bfloat16", "max_num_seqs": 8})
    assert (
        key(Sampling(temperature=0.5, stop=("end",)), changed).hex()
        == "5618df11682eb861b2f21921ee5439b47756f2fbc7225037e21b1b5b7e6af747"
    )


# What a row without these fields was drawn with: a change here is a change of `keys.VERSION`.
DEFAULTS: Json = {
    "n": 1, "max_tokens": 16, "min_tokens": 0, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "logit_bias": {}, "stop": (),
    "allowed_token_ids": None, "bad_words": (),
    "stop_token_ids": (), "include_stop_str_in_output": False, "ignore_eos": False, "skip_special_tokens": True,
    "logprobs": None, "prompt_logprobs": None, "grammar": None, "guides": {}, "stream": False,
}  # fmt: skip
SECTION_DEFAULTS: list[tuple[type[Section], Json, Json]] = [
    (PolicySettings, {"model": "m"}, {"engine": {}}),
    (ClassifierReward, {"model": "m"}, {"engine": {}, "label": None, "activation": False, "template": None}),
    (ProcessReward, {"model": "m"}, {"reduce": "last", "step_tag": None, "step_separator": "\n\n"}),
    (FunctionReward, {"function": "math:sqrt"}, {"scores_all": False, "call": None}),
    (HttpReward, {"url": "http://h/pooling"}, {"model": None, "label": None, "activation": False, "template": None}),
    (ArmGuide, {"model": "m"}, {"base": None}),
    (ImplicitGuide, {"model": "m"}, {"base": None, "reference": None, "reference_base": None}),
    (QHeadGuide, {"head": "h"}, {"model": None, "base": None}),
]


def test_a_default_that_changes_needs_a_new_version_of_keys() -> None:
    assert VERSION == 2
    for name, value in DEFAULTS.items():
        assert getattr(Sampling(), name) == value, name
    for section, required, defaults in SECTION_DEFAULTS:
        made = section(**required)
        assert {name: getattr(made, name) for name in defaults} == defaults, section


def test_guides_of_two_kinds_with_one_model_are_two() -> None:
    assert model_identity(ArmGuide(model="m")) != model_identity(ImplicitGuide(model="m"))
