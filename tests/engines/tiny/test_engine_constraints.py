"""Constraints on the answer's text and tokens, by vLLM's engine: grammars, allowed tokens, bad words."""

import json
import re
from typing import Any

import pytest

from tests.support.engine import Tiny

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_a_bad_grammar_names_its_field(tiny: Tiny) -> None:
    wrong = tiny.client.post("/v1/completions", json={"prompt": "x", "regex": "[0-9"})
    assert wrong.json()["error"]["param"] == "regex"
    bad = {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}
    wrong = tiny.client.post("/v1/completions", json={"prompt": "x", "response_format": bad})
    assert wrong.json()["error"]["param"] == "response_format"


def test_structured_outputs(tiny: Tiny) -> None:
    best = {"strategy": "best_of_n", "n": 3, "return_candidates": True}
    answer = tiny.post(prompt="x", max_tokens=20, regex="[0-9]{3}-[a-f]{2}", decoding=best)
    for candidate in answer["decoding"]["candidates"]:
        assert re.fullmatch("[0-9]{3}-[a-f]{2}", candidate["text"])
    anything = tiny.post(prompt="x", max_tokens=400, seed=1, response_format={"type": "json_object"})["choices"][0]
    assert anything["text"].lstrip().startswith("{")  # a random model may not close what it opens
    if anything["finish_reason"] == "stop":
        assert isinstance(json.loads(anything["text"]), dict)
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    text = tiny.post(prompt="x", max_tokens=200, response_format=form)["choices"][0]["text"]
    assert json.loads(text) in ({"a": 1}, {"a": 2})


def test_structured_outputs_in_vllms_words(tiny: Tiny) -> None:
    def text(**constraint: Any) -> str:
        answer = tiny.post(prompt="x", max_tokens=200, seed=2, structured_outputs=constraint)
        return str(answer["choices"][0]["text"])

    schema = {"type": "object", "properties": {"a": {"const": None}}, "required": ["a"], "additionalProperties": False}
    assert text(choice=["a good dog", "a bad fox"]) in ("a good dog", "a bad fox")
    assert re.fullmatch("[0-9]{3}", text(regex="[0-9]{3}"))
    assert text(grammar='root ::= "fox" | "dog"') in ("fox", "dog")
    assert json.loads(text(json=schema)) == {"a": None}
    assert json.loads(text(json=json.dumps(schema))) == {"a": None}
    seven = {"type": "json_schema", "json_schema": {"enum": [7]}}
    tag = {"type": "structural_tag", "format": {"type": "tag", "begin": "<n>", "content": seven, "end": "</n>"}}
    assert text(structural_tag=tag) == text(structural_tag=json.dumps(tag)) == "<n>7</n>"
    best = {"strategy": "best_of_n", "n": 4, "return_candidates": True}
    answer = tiny.post(prompt="x", max_tokens=8, structured_outputs={"choice": ["a", "b"]}, decoding=best)
    assert {candidate["text"] for candidate in answer["decoding"]["candidates"]} <= {"a", "b"}
    wrong = tiny.client.post("/v1/completions", json={"prompt": "x", "structured_outputs": {"grammar": "root ::= ("}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "structured_outputs")


def test_words_and_tokens_that_may_not_come(tiny: Tiny) -> None:
    fox, dog = tiny.ids(" fox")[0], tiny.ids(" dog")[0]
    only = tiny.post(prompt="The", max_tokens=6, allowed_token_ids=[fox, dog], seed=1)["choices"][0]["text"]
    assert only
    assert set(only.split()) <= {"fox", "dog"}
    block = {"strategy": "controlled", "candidates": 2, "block_tokens": 2}
    blocks = tiny.post(prompt="The", max_tokens=6, allowed_token_ids=[fox, dog], seed=1, decoding=block)
    assert set(blocks["choices"][0]["text"].split()) <= {"fox", "dog"}
    [word], [_] = tiny.ids(" a"), tiny.ids("a")  # vLLM also bans a word behind a space if it has as many tokens there
    fields: dict[str, Any] = {"prompt": "The", "max_tokens": 4, "logit_bias": {str(word): 100, str(dog): 90}}
    assert tiny.post(**fields)["choices"][0]["text"] == " a" * 4
    assert tiny.post(**fields, bad_words=["a"])["choices"][0]["text"] == " dog" * 4
    refused = tiny.client.post("/v1/completions", json={**fields, "bad_words": ["a"], "decoding": block})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "bad_words")
    outside = tiny.client.post("/v1/completions", json={"prompt": "The", "allowed_token_ids": [10**6]})
    assert (outside.status_code, outside.json()["error"]["param"]) == (400, "allowed_token_ids")
