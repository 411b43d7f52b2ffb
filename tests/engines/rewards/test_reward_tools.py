"""What reward models read of an answer that calls tools or reasons, by each template."""

import asyncio
from typing import Any

import pytest

from decoders.core import Candidate, Prompt
from decoders.reply import Reply, ToolCall
from server.engines.rewards.reward_input import AnswerReward, WholeReward
from server.engines.rewards.reward_text import RewardText
from tests.support.remote_judge import Judge, rewards
from tests.support.reward_text import text
from tests.support.templates import MARKED, made

KNOWS = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}({{ c.function.name }}:{{ c.function.arguments.a }}){% endfor %}{% endfor %}"
)
TOOL: Any = {"type": "function", "function": {"name": "f"}}
EARLIER: Any = {"id": "0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
MESSAGES: Any = (
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [EARLIER]},
    {"role": "tool", "content": "no"},
)
DRAWN = Candidate((7, 8), "so<call>f 2</call>", "stop")


class OneCall:
    """Takes every answer for thoughts and one call."""

    identity = ""

    def __init__(self, arguments: str = '{"a": 2}') -> None:
        self._arguments = arguments

    def read(self, tokens: tuple[int, ...], text: str) -> Reply:  # noqa: ARG002
        return Reply("<call>f 2</call>", None, "so", (ToolCall("1", "f", self._arguments),))


def rendered(template: str, arguments: str = '{"a": 2}', **how: Any) -> str:
    policy, reward = made(MARKED), made(template)
    prompt = Prompt((1, 2), "rendered ", MESSAGES, tools=(TOOL,), parser=OneCall(arguments))
    reading = RewardText("r", how.get("as_"), text(reward), text(policy))
    return reading.render(prompt, prompt.reply(DRAWN))[0]


def test_a_template_that_shows_calls_shows_them_and_the_tools() -> None:
    assert rendered(KNOWS) == "[f]<user>hi<assistant>(f:1)<tool>no<assistant>(f:2)"


@pytest.mark.parametrize("arguments", ["{", "[2]", '"a"'])
def test_it_reads_an_empty_object_for_arguments_that_are_none(arguments: str) -> None:
    assert rendered(KNOWS, arguments).endswith("<assistant>(f:)")


def test_another_template_reads_calls_as_text() -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    call = '{"name": "f", "arguments": {"a": 1}}'
    assert rendered(template) == f"<user>hi<assistant>{call}<tool>no<assistant><call>f 2</call>"
    assert rendered(template, as_="none") == f"hi\n{call}\nno\n<call>f 2</call>"
    assert rendered(template, as_="policy") == "rendered <call>f 2</call>"


class Recording:
    """A reward that keeps what it is given."""

    def __init__(self) -> None:
        self.scored: list[tuple[Prompt, Candidate]] = []

    async def score(self, prompt: Prompt, completions: Any) -> list[float]:
        self.scored += [(prompt, completion) for completion in completions]
        return [0.0 for _ in completions]


def test_by_its_settings_a_reward_reads_the_answer_or_all_of_it() -> None:
    prompt = Prompt((1, 2), "rendered ", MESSAGES, parser=OneCall())
    recording = Recording()
    for reward in (AnswerReward(recording), WholeReward(recording)):
        asyncio.run(reward.score(prompt, [DRAWN]))
    (_, answer), (alone, whole) = recording.scored
    assert (answer.text, answer.trimmed, answer.tokens) == ("<call>f 2</call>", True, DRAWN.tokens)
    assert whole == DRAWN
    assert alone.reply(whole) == Reply(DRAWN.text, DRAWN.text)
    plain = Prompt((1, 2), "rendered ")
    asyncio.run(AnswerReward(recording).score(plain, [DRAWN]))
    assert recording.scored[-1] == (plain, DRAWN)


@pytest.mark.parametrize("template", ["own", "none"])
def test_another_server_is_sent_the_calls_in_a_message_or_as_text(template: Any) -> None:
    judge = Judge([rewards])
    prompt = Prompt((1, 2), "rendered ", MESSAGES, tools=(TOOL,), parser=OneCall())
    assert judge.ask((prompt, DRAWN), template=template)
    [body] = judge.bodies
    if template == "own":
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 2}'}}
        assert body["messages"] == [*MESSAGES, {"role": "assistant", "content": "", "tool_calls": [call]}]
    else:
        assert body["input"][0].startswith('hi\n{"name": "f"')
