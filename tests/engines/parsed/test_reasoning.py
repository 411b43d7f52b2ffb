"""Reasoning on vLLM: separate from the answer, left out of what rewards and votes read, and bounded."""

from typing import Any

import pytest

from tests.support.engine import Tiny
from tests.support.serving import Json, refused

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

USER: Json = {"role": "user", "content": "Hi"}
THOUGHTS = "hm, the weather"
BEST: Json = {"strategy": "best_of_n", "n": 4, "return_candidates": True}


def ask(scripted: Tiny, **body: Any) -> Json:
    return scripted.post("/v1/chat/completions", **{"messages": [USER], "seed": 1, **body})


def test_it_stands_beside_the_content_and_is_counted(scripted: Tiny) -> None:
    answer = ask(scripted, n=3)
    assert {choice["message"]["reasoning"] for choice in answer["choices"]} == {THOUGHTS}
    assert not any(THOUGHTS in choice["message"]["content"] for choice in answer["choices"])
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 6}


def test_it_can_be_hidden_and_left_out_by_the_template(scripted: Tiny) -> None:
    hidden = ask(scripted, include_reasoning=False, decoding=BEST)
    assert "reasoning" not in hidden["choices"][0]["message"]
    assert THOUGHTS not in str(hidden["decoding"]["candidates"])
    for fields in ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}):
        answer = ask(scripted, **fields)
        assert "reasoning" not in answer["choices"][0]["message"]
        assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_a_reward_reads_the_answer_unless_its_settings_say_all(scripted: Tiny) -> None:
    reward = {"answer": 1, "all": 1, "length": 1}
    for candidate in ask(scripted, decoding={**BEST, "reward": reward})["decoding"]["candidates"]:
        length = len(candidate["text"])
        assert candidate["rewards"] == {"answer": 0.0, "all": 1.0, "length": length}


def test_a_vote_reads_the_answer(scripted: Tiny) -> None:
    vote = {"by": "vote", "answer": "(weather|there)"}
    answer = ask(scripted, decoding={**BEST, "n": 8, "select": vote})
    texts = [candidate["text"] for candidate in answer["decoding"]["candidates"]]
    talked = sum("there" in text for text in texts)
    winner = answer["decoding"]["results"][0]["vote"]
    assert winner["share"] == max(talked, 8 - talked) / 8


def test_it_ends_at_its_budget(scripted: Tiny) -> None:
    for decoding in ({"strategy": "sample"}, {"strategy": "controlled", "block_tokens": 2}):
        answer = ask(scripted, thinking_token_budget=1, decoding=decoding)
        assert answer["choices"][0]["message"]["reasoning"] == "hm, "
        assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_a_grammar_constrains_the_answer_after_it(scripted: Tiny) -> None:
    answer = ask(scripted, regex="Hello there", decoding=BEST)
    for candidate in answer["decoding"]["candidates"]:
        assert (candidate["reasoning"], candidate["text"]) == (THOUGHTS, "Hello there")


def test_an_answer_that_is_cut_while_it_reasons_says_nothing_yet(scripted: Tiny) -> None:
    [choice] = ask(scripted, max_tokens=2)["choices"]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None, "reasoning": "hm, "}
    assert choice["finish_reason"] == "length"


def test_a_template_of_the_requests_own_is_refused_unless_it_is_trusted(scripted: Tiny) -> None:
    body = {"messages": [USER], "chat_template": "{{ messages }}"}
    error = refused(scripted.client.post("/v1/chat/completions", json=body), 400)
    assert "trust" in error["message"]
    assert error["param"] == "chat_template"
