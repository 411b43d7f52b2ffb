"""docs/reward-models.md has a row and settings for each family that is tested, and for no other."""

import re

import yaml

from tests.docs.blocks import of, pages
from tests.support.families.classifiers import CLASSIFIERS
from tests.support.families.reward_heads import REWARD_HEADS

NAME = "docs/reward-models.md"
FAMILIES = {family.name: family for family in (*CLASSIFIERS, *REWARD_HEADS)}


def test_the_rows_are_the_tested_families() -> None:
    assert re.findall(r"^\| `(\w+)` \|", pages()[NAME], re.M) == list(FAMILIES)


def test_the_settings_are_those_that_are_tested() -> None:
    [shown, *_] = [yaml.safe_load(block.text)["rewards"] for block in of("settings") if block.file == NAME]
    assert list(shown) == list(FAMILIES)
    for name, family in FAMILIES.items():
        engine = {"engine": family.engine} if family.engine else {}
        own = {key: value for key, value in shown[name].items() if key != "model"}
        assert own == {**family.settings, **engine}, name
