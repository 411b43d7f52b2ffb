"""Adapters merged as PEFT itself merges them; whatever else an adapter may hold is refused."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from server.engines.guided.adapters import CONFIG, WEIGHTS, merged, read_config
from tests.support.guided import make_guided_models

NAME = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_guided_models(tmp_path_factory.mktemp("guided"))


@pytest.fixture
def adapter(models: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(models["adapter"], tmp_path / "adapter"))


def weights(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(path / "model.safetensors")
    return found


def changed(adapter: Path, **fields: Any) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, **fields}))


def rewritten(adapter: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(adapter / WEIGHTS)), adapter / WEIGHTS)


def test_merged_weights_are_pefts_own(models: dict[str, Path]) -> None:
    base, want = weights(models["policy"]), weights(models["tuned"])
    have = dict(merged(base.items(), str(models["adapter"])))
    assert list(have) == list(base)
    for name, weight in have.items():
        torch.testing.assert_close(weight, want[name], rtol=0, atol=1e-6)
    differ = {name for name in base if not torch.equal(have[name], base[name])}
    assert differ == {
        f"model.layers.1.{part}_proj.weight" for part in ("self_attn.q", "self_attn.v", "self_attn.o", "mlp.down")
    }


def test_a_change_is_added_in_float32_and_then_rounded(models: dict[str, Path]) -> None:
    base = {name: weight.bfloat16() for name, weight in weights(models["policy"]).items()}
    own = load_file(models["adapter"] / WEIGHTS)
    a, b = (own[f"base_model.model.{NAME.removesuffix('weight')}lora_{x}.weight"] for x in "AB")
    have = dict(merged(base.items(), str(models["adapter"])))[NAME]
    assert torch.equal(have, (base[NAME].float() + 8 / 4 * (b @ a)).bfloat16())


def test_a_rank_stabilised_adapter_has_its_own_scale(models: dict[str, Path], adapter: Path) -> None:
    base = weights(models["policy"])
    plain = dict(merged(base.items(), str(adapter)))[NAME] - base[NAME]
    changed(adapter, use_rslora=True)
    scaled = dict(merged(base.items(), str(adapter)))[NAME] - base[NAME]
    torch.testing.assert_close(scaled, plain * math.sqrt(4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 8}}, "rank_pattern, alpha_pattern"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_bias": True}, "lora_bias"),
        ({"peft_type": "IA3"}, "peft_type IA3"),
    ],
)
def test_what_is_no_plain_lora_is_refused(adapter: Path, fields: dict[str, Any], words: str) -> None:
    changed(adapter, **fields)
    with pytest.raises(ValueError, match=rf"is not a plain LoRA \({words}\): merge it with PEFT"):
        read_config(str(adapter))


def test_weights_that_find_no_place_are_refused(models: dict[str, Path], adapter: Path) -> None:
    base = weights(models["policy"])

    def merge() -> None:
        list(merged(base.items(), str(adapter)))

    del base[NAME]
    with pytest.raises(ValueError, match=rf"changes 1 weights that its base lacks: {NAME}"):
        merge()
    base[NAME] = torch.zeros(128, 32)
    with pytest.raises(ValueError, match=rf"does not fit its base: {NAME} is \(128, 32\)"):
        merge()
    base[NAME] = torch.zeros(128, 64)
    merge()
    rewritten(adapter, lambda own: {**own, "base_model.model.lm_head.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="holds more than A and B of linear layers"):
        merge()


def test_an_adapter_with_a_half_of_a_pair_is_refused(models: dict[str, Path], adapter: Path) -> None:
    rewritten(adapter, lambda own: dict(list(own.items())[1:]))
    with pytest.raises(ValueError, match="holds more than A and B of linear layers"):
        list(merged(weights(models["policy"]).items(), str(adapter)))
