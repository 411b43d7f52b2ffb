"""Requests of the pages are sent to the toy under the demo's names: the server accepts them, without an engine."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decoders.models import Models, Reward
from decoders.testing import ToyBrevity, ToyGuide, ToyPolicy, ToyReward
from server.demo.defaults import GUIDES
from server.engines.toy_text import ToyText
from server.loading import Loaded
from server.runtime.presets import offered
from server.settings import ServerSettings
from server.settings.presets import SHIPPED
from tests.docs.asking import client, curl, same_shape
from tests.docs.blocks import Block, body, of, pages, values
from tests.support.serving import Api, ok, serving

NAME = "SmolLM2-135M-Instruct"


def loaded() -> Loaded:
    """Return the toy under the demo's names, with rewards as bounded as theirs."""
    rewards: dict[str, Reward] = {"default": ToyReward(), "tone": ToyBrevity(), "brevity": ToyBrevity()}
    policy = ToyPolicy(name=NAME, loaded={name: ToyGuide() for name in GUIDES})
    return Loaded(Models(policy, rewards, None), ToyText(), dict.fromkeys(rewards, "toy"))


def without_tools(kind: str) -> list[Block]:
    """Return the blocks without those whose requests have tools, which the toy would refuse."""
    return [block for block in of(kind) if block.file != "docs/tools.md"]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    models = loaded()
    with serving(models, offered({}, None, models.models, ServerSettings(), shipped=True)) as api:
        yield api


BODIES = [
    pytest.param(body(value), id=f"{block.name}-{i}")
    for block in of("bodies")
    for i, value in enumerate(values(block.text))
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_taken(api: Api, body: dict[str, Any]) -> None:
    answer = ok(api.post("chat/completions", {**body, "max_tokens": 4}))
    assert answer["decoding"]["strategy"] == body["decoding"]["strategy"]


def test_every_strategy_of_the_page_has_a_body() -> None:
    page = pages()["docs/strategies.md"]
    headings = set(re.findall(r"^## ([a-z_]+)$", page, re.M))
    shown = {value["strategy"] for block in of("bodies") for value in values(block.text) if "strategy" in value}
    assert len(headings) >= 6
    assert headings <= shown


def test_the_shipped_presets_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `(\{.*\})` \| ", pages()["docs/presets.md"], re.M)
    assert {name: json.loads(decoding.replace(r"\|", "|")) for name, decoding in rows} == SHIPPED


@pytest.mark.parametrize("block", without_tools("curl"), ids=lambda block: block.name)
def test_curl_sends_what_is_taken(api: Api, block: Block) -> None:
    answer = curl(block, api.url, tokens=40)  # the toy's context is short
    assert answer["decoding"]["results"]


@pytest.mark.parametrize("block", of("client"), ids=lambda block: block.name)
def test_a_client_runs_and_prints(api: Api, block: Block, tmp_path: Path) -> None:
    assert "rewards" in client(block, api.url, tmp_path)


@pytest.mark.parametrize("block", without_tools("answer"), ids=lambda block: block.name)
def test_an_answer_is_as_it_is_shown(api: Api, block: Block) -> None:
    assert same_shape(block, api.url)["model"] == NAME
