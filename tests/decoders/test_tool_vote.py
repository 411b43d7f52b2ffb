"""Best-of-N by a vote over the tools that candidates call: what counts as an answer, and the law on the toy."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from decoders import BestOfN
from decoders.core import Prompt, Sampling, Tokens
from decoders.models import Models
from decoders.parts.vote import NO_CALL, ToolAnswer, Vote
from decoders.reply import Reply, ToolCall
from decoders.testing import ToyPolicy, ToyReward, law
from tests.support import laws

POLICY = ToyPolicy(vocabulary=3, longest=3)
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
MODELS = Models(POLICY, {"default": ToyReward()})


def reply(*calls: tuple[str, str]) -> Reply:
    return Reply("", None, tool_calls=tuple(ToolCall(str(i), *call) for i, call in enumerate(calls)))


class WordsAsCalls:
    """Reads a completion as a call of its first word, with its length and a comment that no other completion has."""

    identity = "words"

    def read(self, tokens: Tokens, text: str) -> Reply:
        words = text.split()
        if not words:
            return Reply(text, text)
        if len(words) == 3:  # one that cannot be read
            return reply((words[0], "{"))
        arguments = {"length": len(words), "comment": str(tokens)}
        return reply((words[0], json.dumps(arguments)))


TOOL: Any = {"type": "function", "function": {"name": "good"}}
PROMPT = Prompt((), "", (), tools=(TOOL,), parser=WordsAsCalls())


def answer_of(y: Tokens, answer: ToolAnswer) -> str | None:
    """What a completion votes for, by the definition."""
    words = [w for w in y if w]
    if not words:
        return NO_CALL
    if answer.tool == "name":
        return str(words[0])
    return None if len(words) == 3 else str(words[:1] * (answer.tool == "call") + [len(words)])


@pytest.mark.parametrize(
    "answer", [{"tool": "name"}, *({"tool": t, "ignore": ["comment"]} for t in ("call", "arguments"))]
)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_its_law_by_brute_force(n: int, answer: Any) -> None:
    select = Vote(answer=ToolAnswer(**answer))
    assert isinstance(select.answer, ToolAnswer)
    read = select.answer

    def judge(ys: tuple[Tokens, ...]) -> Sequence[float]:
        answers = [answer_of(y, read) for y in ys]
        most = max((answers.count(a) for a in answers if a is not None), default=0)
        weights = []
        for y, own in zip(ys, answers, strict=True):
            same = [WORTH[z] for z, other in zip(ys, answers, strict=True) if other == own]
            wins = (own is not None and answers.count(own) == most) or most == 0
            weights.append(1 / same.count(max(same)) if wins and WORTH[y] == max(same) else 0.0)
        return weights

    decoder = BestOfN(n=n, select=select)
    have = asyncio.run(law(lambda rng: decoder.decode(PROMPT, MODELS, Sampling(), rng)))
    assert have == pytest.approx(laws.chosen(PI, n, judge), abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([("f", '{"a": 1, "b": 2}')], [("f", '{"b":2,"a":1}')], True),
        ([("f", '{"a": 1}')], [("f", '{"a": 1.0}')], True),
        ([("f", '{"a": 1}')], [("f", '{"a": true}')], False),
        ([("f", '{"a": 1}')], [("f", '{"a": "1"}')], False),
        ([("f", '{"a": 1, "why": "so"}')], [("f", '{"a": 1, "why": "else"}')], True),
        ([("f", '{"a": {"why": 1}}')], [("f", '{"a": {"why": 2}}')], False),  # ignored at the top alone
        ([("f", '{"a": 1}')], [("g", '{"a": 1}')], False),
        ([("f", "{}"), ("g", "{}")], [("g", "{}"), ("f", "{}")], True),
        ([("f", "{}"), ("f", "{}")], [("f", "{}")], False),
        ([("f", '{"a": "é"}')], [("f", '{"a": "\\u00e9"}')], True),
    ],
)
def test_two_calls_are_one_answer_if_they_say_the_same(one: Any, other: Any, same: bool) -> None:
    vote = Vote(answer=ToolAnswer(tool="call", ignore=["why"]))
    first, second = vote.answers([reply(*one), reply(*other)])
    assert first is not None
    assert (first == second) is same


def test_what_is_read_of_a_call() -> None:
    calls = [
        reply(("f", '{"b": 2, "a": 1}')),
        reply(("f", "{}"), ("g", "{}")),
        reply(("f", "{")),
        reply(("f", "[]")),
        reply(),
    ]
    read = {tool: Vote(answer=ToolAnswer(tool=tool)).answers(calls) for tool in ("name", "arguments", "call")}
    assert read["name"] == ["f", "[f,g]", "f", "f", NO_CALL]
    assert read["arguments"] == ['{"a":1,"b":2}', "[{},{}]", None, None, NO_CALL]
    assert read["call"][0] == '{"arguments":{"a":1,"b":2},"name":"f"}'


def test_reasoning_has_no_vote() -> None:
    thinking = Reply("the answer is 2", "the answer is 2", reasoning="is it 1?")
    assert Vote(answer=r"\d").answers([thinking]) == ["2"]
