"""From settings to columns and combinations; and what of it cannot be run, said before anything is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from server.engines.guided.column import Column
from server.engines.guided.plan import PROCESSOR, Plan, plan
from server.engines.guided.plan_checks import check_vocabulary
from server.engines.guided.plugin import ARCHITECTURE
from server.engines.guided.row_weights import KEY
from server.settings import AnyGuide, EngineArgs, PolicySettings, SettingsError
from server.settings.reading import read_settings
from tests.support.guided import make_guided_models

Json = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: str(path) for name, path in make_guided_models(tmp_path_factory.mktemp("guided")).items()}


@pytest.fixture
def spoilt(made: dict[str, str], tmp_path: Path) -> Path:
    """A copy of a guide, to be changed."""
    return Path(shutil.copytree(made["llama"], tmp_path / "guide"))


def planned(made: dict[str, str], guides: Json, **engine: Any) -> tuple[Plan, EngineArgs]:
    parsed = TypeAdapter(dict[str, AnyGuide]).validate_python(guides)
    return plan(parsed, PolicySettings(model=made["policy"], engine=engine))


def refused(made: dict[str, str], guide: Json, **engine: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        planned(made, {"g": guide}, **engine)
    return str(caught.value)


def test_the_problems_of_all_guides_are_told(made: dict[str, str], tmp_path: Path) -> None:
    guides = {
        "a": {"kind": "arm", "model": made["llama"], "base": made["policy"]},
        "b": {"kind": "q_head", "head": str(tmp_path / "none")},
        "c": {"kind": "arm", "model": str(tmp_path)},
        "d": {"kind": "arm", "model": made["llama"]},
    }
    with pytest.raises(SettingsError) as caught:
        planned(made, guides)
    base, head, config = caught.value.problems
    assert "so a base means nothing for it" in base
    assert "there is no such file" in head
    assert "cannot read the configuration" in config


def configured(folder: Path, **fields: Any) -> Json:
    """The guide in `folder`, with other fields in its configuration."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    return {"kind": "arm", "model": str(folder)}


def test_guides_are_combinations_of_columns(made: dict[str, str]) -> None:
    adapter = {"model": made["adapter"]}
    guides = {
        "weak": {"kind": "arm", "model": made["llama"]},
        "tuned": {"kind": "implicit", **adapter},
        "expert": {"kind": "implicit", "model": made["qwen"], "reference": made["llama"]},
        "other": {"kind": "implicit", "model": made["window"], "reference": made["llama"]},
        "same": {"kind": "arm", **adapter, "base": made["policy"]},
        "values": {"kind": "q_head", "head": made["head"]},
        "scores": {"kind": "q_head", "model": made["long"]},
        "nothing": {"kind": "implicit", "model": made["llama"], "reference": made["llama"]},
        "reversed": {"kind": "implicit", "model": made["policy"], "reference": made["adapter"]},
    }
    have, arguments = planned(made, guides, max_model_len=512, hf_overrides={"x": 1}, logits_processors=["a:B"])
    columns = [
        Column("guide_weak", made["llama"]),
        Column("guide_tuned", made["policy"], made["adapter"]),
        Column("guide_expert", made["qwen"]),
        Column("guide_other", made["window"]),
        Column("head_values", head=made["head"]),
        Column("guide_scores", made["long"]),
        Column("guide_reversed", made["policy"]),
    ]
    assert have.columns == columns, "what two guides have in common is loaded once"
    assert have.guides == {
        "weak": {1: 1},
        "tuned": {2: 1, 0: -1},
        "expert": {3: 1, 1: -1},
        "other": {4: 1, 1: -1},
        "same": {2: 1},
        "values": {5: 1},
        "scores": {6: 1},
        "nothing": {1: 0},
        "reversed": {7: 1, 2: -1},
    }
    assert arguments["max_model_len"] == 512
    assert arguments["logits_processors"] == ["a:B", PROCESSOR]
    overrides = arguments["hf_overrides"]
    assert (overrides["x"], overrides["architectures"]) == (1, [ARCHITECTURE])
    assert overrides["decant_architecture"] == "LlamaForCausalLM"
    assert [Column(**json.loads(json.dumps(c))) for c in overrides["decant_columns"]] == columns


PLAN = Plan(
    [Column("guide_a", "a"), Column("guide_b", "b"), Column("head_q", head="q")],
    {"a": {1: 1.0}, "i": {2: 1.0, 0: -1.0}, "e": {2: 1.0, 1: -1.0}, "q": {3: 1.0}},
)


def test_weights_of_guides_are_weights_of_columns() -> None:
    assert PLAN.weights({}) == [1, 0, 0, 0]
    assert PLAN.weights({"a": 0.5, "q": 3.0}) == [1, 0.5, 0, 3]
    assert PLAN.weights({"i": 0.25}) == [0.75, 0, 0.25, 0]
    assert PLAN.weights({"i": 1.0, "e": 2.0, "a": 2.0}) == [0, 0, 3, 0]
    assert PLAN.weights({"a": 1.0}, policy=2.0) == [2, 1, 0, 0]


def test_a_plain_request_says_nothing_to_the_engine() -> None:
    assert PLAN.extra_args(PLAN.weights({})) is None
    assert PLAN.extra_args(PLAN.weights({"a": 2.0, "e": 2.0, "i": -2.0}, policy=-1.0)) is None, "all of it cancels"
    assert PLAN.extra_args(PLAN.weights({}, policy=0.5)) == {KEY: [0.5, 0, 0, 0]}
    assert Plan().extra_args(Plan().weights({})) is None


def test_the_prefix_cache_is_apart_by_the_models_that_ran() -> None:
    salts = [PLAN.salt(PLAN.weights(w)) for w in ({}, {"q": 1.0}, {"a": 1.0}, {"a": -9.0, "q": 1.0}, {"e": 1.0})]
    assert salts == [None, None, "guide_a", "guide_a", "guide_a,guide_b"]


def test_padding_beyond_the_tokenizer_is_no_difference(made: dict[str, str]) -> None:
    assert planned(made, {"g": {"kind": "arm", "model": made["long"]}})[0].columns == [Column("guide_g", made["long"])]


def test_vocabularies_differ_at_a_token_that_is_named() -> None:
    ours = {"a": 0, "b": 1, "c": 2}
    check_vocabulary("g", ours, dict(reversed(ours.items())), 3)
    for theirs, words in (
        ({"a": 0, "c": 1, "b": 2}, "token 1 is 'c' there, and 'b' here"),
        ({"a": 0, "b": 1}, "token 2 is None there, and 'c' here"),
        ({**ours, "d": 3}, "token 3 is 'd' there, and None here"),
    ):
        with pytest.raises(SettingsError, match=f"g: its vocabulary is not the policy's: {words}"):
            check_vocabulary("g", ours, theirs, 9)
    with pytest.raises(SettingsError, match="g: it has 2 outputs, and none for token 2, 'c'"):
        check_vocabulary("g", ours, ours, 2)


def test_a_guide_must_read_what_the_policy_reads(made: dict[str, str], spoilt: Path) -> None:
    short = configured(spoilt, max_position_embeddings=64)
    assert "reads 64 tokens, and the policy's context is 1024: set a smaller" in refused(made, short)
    assert "reads 64 tokens, and the policy's context is 65" in refused(made, short, max_model_len=65)
    planned(made, {"g": short}, max_model_len=64)
    few = configured(spoilt, max_position_embeddings=1024, vocab_size=20)
    assert "guides: guide_g: it has 20 outputs, and none for token 20" in refused(made, few)


def test_a_guide_with_another_vocabulary_or_none_is_refused(made: dict[str, str], spoilt: Path) -> None:
    tokenizer = json.loads((spoilt / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = sorted(vocabulary, key=vocabulary.get)[100:102]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (spoilt / "tokenizer.json").write_text(json.dumps(tokenizer))
    said = refused(made, {"kind": "arm", "model": str(spoilt)})
    assert said == f"guides: guide_g: its vocabulary is not the policy's: token 100 is {two!r} there, and {one!r} here"
    for file in spoilt.glob("token*"):
        file.unlink()
    assert "has no tokenizer to compare with the policy's" in refused(made, {"kind": "arm", "model": str(spoilt)})


def test_what_was_never_tried_is_refused(made: dict[str, str], spoilt: Path) -> None:
    weak = {"kind": "arm", "model": made["llama"]}
    untried: dict[str, Any] = {
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 2,
        "speculative_config": {"method": "ngram"},
        "quantization": "fp8",
        "enable_lora": True,
    }
    for name, value in untried.items():
        said = f"policy.engine: {name} is not supported together with guides"
        assert refused(made, weak, **{name: value}) == said
    planned(made, {"g": weak}, tensor_parallel_size=1, enable_lora=False, quantization=None)
    quantised = configured(spoilt, quantization_config={"quant_method": "fp8"})
    assert "is quantised, which is not supported together with guides" in refused(made, quantised)
    nowhere = spoilt / "nowhere"
    assert f"guides: guide_g: there is no '{nowhere}'" in refused(made, {"kind": "arm", "model": str(nowhere)})
    (spoilt / "config.json").write_text("{")
    assert "cannot read the configuration of" in refused(made, {"kind": "arm", "model": str(spoilt)})


def test_a_head_must_fit_the_policy(made: dict[str, str], tmp_path: Path) -> None:
    def said(name: str) -> str:
        return refused(made, {"kind": "q_head", "head": str(tmp_path / name)})

    save_file({"weight": torch.zeros(64, 384)}, tmp_path / "turned")
    assert said("turned").endswith("its weight is [64, 384], and must be [384, 64] for this policy")
    save_file({"kernel": torch.zeros(384, 64)}, tmp_path / "unnamed")
    assert said("unnamed").endswith("a head is a safetensors file with a `weight`")
    (tmp_path / "text").write_text("no tensors")
    assert said("text").endswith("a head is a safetensors file with a `weight`")
    assert said("missing") == f"guides: head_g: {tmp_path}/missing: there is no such file"


def test_a_base_is_for_an_adapter_and_an_adapter_needs_one(made: dict[str, str], tmp_path: Path) -> None:
    said = refused(made, {"kind": "arm", "model": made["llama"], "base": made["policy"]})
    assert said.endswith("holds no adapter_config.json, so a base means nothing for it")
    adapter = Path(shutil.copytree(made["adapter"], tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    guide = {"kind": "implicit", "model": str(adapter)}
    assert refused(made, guide).endswith("names no base model: set `base`")
    assert planned(made, {"g": {**guide, "base": made["policy"]}})[0].columns == [
        Column("guide_g", made["policy"], str(adapter))
    ]
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    assert "guides: guide_g: the adapter" in refused(made, guide)


ARM = {"kind": "arm", "model": "m"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"guides": {"q": {"kind": "q_head"}}}, "a q_head is either a `model` or a `head`"),
        ({"guides": {"q": {"kind": "q_head", "model": "m", "head": "h"}}}, "a q_head is either a `model` or a `head`"),
        ({"guides": {"my-guide": ARM}}, "'my-guide' is not a name"),
        ({"guides": {"guided": ARM}}, "none may be called 'guided'"),
        ({"guides": {"a": {"kind": "who", "model": "m"}}}, "'arm', 'implicit', 'q_head'"),
        ({"guides": {"a": {**ARM, "reference": "r"}}}, "reference"),
        ({"guided_engine": {}}, "guided_engine: there are no guides to run in it"),
        ({"rewards": {"r": {"kind": "guide", "guide": "a"}}}, "rewards.r: there is no guide 'a'. Guides: none"),
        (
            {"guides": {"q": {"kind": "q_head", "head": "h"}}, "rewards": {"r": {"kind": "guide", "guide": "q"}}},
            "rewards.r: the guide 'q' has values of tokens, not probabilities",
        ),
    ],
)
def test_settings_of_guides_that_cannot_be_are_refused(settings: Json, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(policy={"model": "p"}, **settings)
    assert words in str(caught.value)
