"""An answer to a chat taken apart: what was thought, what was said, and which tools it calls."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; `arguments` is the JSON that the policy wrote, which need not be valid."""

    id: str
    name: str
    arguments: str

    def as_openai(self) -> dict[str, Any]:
        """Return the call as OpenAI's messages have it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, taken apart.

    `text` is the answer as it was drawn, without its reasoning: what rewards and votes read. `content` is what of it is
    said to the user, and None where nothing is.
    """

    text: str
    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning_tokens: int = 0


class AnswerParser(Protocol):
    """Takes the answers to one chat apart."""

    identity: str
    """What decides how answers are taken apart, beside the policy's settings; empty for a chat without tools."""

    def read(self, tokens: tuple[int, ...], text: str) -> Reply:
        """Return an answer, or the beginning of one, taken apart. The same tokens give the same ids of calls."""


def with_objects(messages: Iterable[Mapping[str, Any]], *, always: bool = False) -> list[dict[str, Any]]:
    """Return messages with the arguments of their calls as objects, and not as JSON.

    Args:
        always: Arguments that are no object become an empty one, and no content an empty one, since chat templates read
            an object and a text, as vLLM has it; otherwise arguments stay the text that the policy wrote.
    """
    return [_with_objects(message, always) for message in messages]


def _with_objects(message: Mapping[str, Any], always: bool) -> dict[str, Any]:
    made = {**message, "content": message.get("content") or ""} if always else dict(message)
    if message.get("tool_calls"):
        made["tool_calls"] = [_with_object(call, always) for call in message["tool_calls"]]
    return made


def _with_object(call: Mapping[str, Any], always: bool) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {} if always else function["arguments"]
    return {**call, "function": {**function, "arguments": arguments}}


def with_calls_as_text(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose calls stand in their contents, a line of JSON each, for who reads contents alone."""
    return [
        {"role": m["role"], "content": "\n".join([*([m["content"]] if m.get("content") else []), *_lines(m)])}
        for m in messages
    ]


def _lines(message: Mapping[str, Any]) -> list[str]:
    calls = (call["function"] for call in message.get("tool_calls") or ())
    return [f'{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"]}}}' for call in calls]
