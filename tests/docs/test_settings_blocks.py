"""Blocks of settings, through the settings' own reader, and of compose files, through their schema."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from server.settings.reading import read
from tests.docs.blocks import ROOT, Block, of, pages

POLICY = {"policy": {"model": "/models/policy"}}  # for a block that shows a part


def ids(block: Block) -> str:
    return block.name


@pytest.mark.parametrize("block", of("settings"), ids=ids)
def test_settings_are_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "decant.yaml"
    file.write_text(block.text)
    found = read(file, POLICY, {})
    assert found.problems == []
    assert found.settings is not None
    assert set(yaml.safe_load(block.text)) <= found.settings.model_fields_set


def test_a_block_that_is_wrong_would_be_seen(tmp_path: Path) -> None:
    [whole, *_] = [block for block in of("settings") if block.file == "README.md"]
    for old, new in (("reduce: min", "reduce: median"), ("max_queue:", "max_que:"), ("guide: helpful}", "guide: hlp}")):
        assert old in whole.text
        file = tmp_path / "decant.yaml"
        file.write_text(whole.text.replace(old, new))
        assert len(read(file, POLICY, {}).problems) == 1


def test_the_settings_that_the_readme_shows_are_the_defaults_where_it_says_what_they_are() -> None:
    [whole, *_] = [block for block in of("settings") if block.file == "README.md"]
    shown = yaml.safe_load(whole.text)
    defaults = read(None, POLICY, {}).settings
    assert defaults is not None
    for section in ("server", "calibration"):
        for name, value in shown[section].items():
            if name not in ("api_keys_file", "accounting_log", "store", "wide_share"):
                assert defaults.model_dump()[section][name] == value, name


PRESETS = re.findall(r"^\| `\w+`: .*\| `(\w+: \{kind: .*?\})` \| `(\{.*?\})`", pages()["docs/guides.md"], re.M)


@pytest.mark.parametrize(("settings", "weights"), PRESETS, ids=[preset[0].partition(":")[0] for preset in PRESETS])
def test_a_preset_s_request_names_the_guide_of_its_settings(settings: str, weights: str) -> None:
    values = {**POLICY, "guides": yaml.safe_load(settings)}
    found = read(None, values, {}).settings
    assert found is not None
    assert found.guides.keys() == yaml.safe_load(weights).keys()


def test_all_presets_were_found() -> None:
    assert len(PRESETS) == 4


@pytest.mark.parametrize("block", of("compose"), ids=ids)
def test_a_compose_file_over_the_project_s_own_fits_its_schema(block: Block, tmp_path: Path) -> None:
    own = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = yaml.safe_load(block.text)["services"]
    assert services.keys() <= own["services"].keys()
    file = tmp_path / "docker-compose.override.yml"
    file.write_text(block.text)
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
