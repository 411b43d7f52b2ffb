"""Answers to one chat, taken apart by vLLM's parsers of reasoning and of tool calls."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from decoders.core import Candidate, Finish, Grammar, Sampling, Tokens
from decoders.reply import Reply, ToolCall

Ended = Literal["stop", "length", "tool_calls"]
log = logging.getLogger("decant")
# What decides how answers are taken apart, of the request's fields.
DECIDING = ("tool_choice", "parallel_tool_calls", "chat_template_kwargs", "reasoning_effort")


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of the call at `index`: its first piece has an id and a name."""

    index: int
    id: str | None
    name: str | None
    arguments: str | None


class ReplyDelta(NamedTuple):
    """What a piece of a streamed answer adds to each part of the reply."""

    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[CallDelta, ...] = ()


@dataclass(frozen=True)
class ParserSource:
    """Where the parsers of one chat's answers come from.

    Args:
        new: Makes one of vLLM's parsers, which have a state and read one answer each.
        new_id: Makes the id of a call to which its parser gives none.
        request: vLLM's request of the chat, as its renderer adjusted it.
        prompt: The chat's tokens.
        reasons: Whether the parsers separate reasoning from the answer.
    """

    new: Callable[[], Any]
    new_id: Callable[[], str]
    request: Any
    prompt: Tokens
    reasons: bool


class ChatParser:
    """Takes the answers to one chat apart, and knows what the choice of tools asks of the sampling."""

    def __init__(
        self,
        source: ParserSource,
        options: Mapping[str, Any],
        grammar: Grammar | None,
        engine_arguments: Mapping[str, Any],
    ) -> None:
        """Args:
        options: The request's own fields, of which some decide how answers are taken apart.
        grammar: What constrains the answers.
        engine_arguments: For the engine, which lets a grammar begin after the reasoning.
        """
        deciding = {name: options[name] for name in DECIDING if name in options}
        self.identity = json.dumps(deciding, sort_keys=True) if deciding else ""
        self.engine_arguments = engine_arguments
        self._source = source
        self._grammar = grammar
        self._replies: dict[Tokens, Reply] = {}
        self.reasons = source.reasons
        self.shows_reasoning: bool = source.request.include_reasoning
        self._one_call = source.request.parallel_tool_calls is False
        self._named = isinstance(options.get("tool_choice"), Mapping)

    def adjusted(self, sampling: Sampling) -> Sampling:
        """Return the sampling with the grammar that a choice of tools asks for, and the tokens that parsers read."""
        skip = bool(self._source.request.skip_special_tokens)
        return replace(sampling, grammar=self._grammar, skip_special_tokens=skip)

    def read(self, tokens: Tokens, text: str) -> Reply:
        if tokens not in self._replies:
            self._replies[tokens] = self._read(tokens, text)
        return self._replies[tokens]

    def ended(self, finish: Finish, *, calls: bool) -> Ended:
        """Return why an answer with calls, or without, ended: OpenAI's `tool_calls` unless one call was named."""
        return "tool_calls" if calls and finish == "stop" and not self._named else finish

    def stream(self) -> "ReplyStream":
        """Return a reader of one streamed answer."""
        return ReplyStream(self, self._source, one_call=self._one_call)

    def _read(self, tokens: Tokens, text: str) -> Reply:
        request, parser = self._source.request, self._source.new()
        parser.set_prompt_token_ids(list(self._source.prompt))
        try:
            reasoning, content, found = parser.parse(
                text, request, enable_auto_tools=True, model_output_token_ids=list(tokens)
            )
        except Exception:  # a parser is code of its model's own, and an answer may be anything
            log.warning("vLLM's parser failed at an answer, which is given as it is", exc_info=True)
            return Reply(text, text)
        calls = tuple(ToolCall(c.id or self._source.new_id(), c.name, c.arguments) for c in found or ())
        answer = self._without_reasoning(text, reasoning, content, calls)
        return Reply(
            text=answer,
            content=content or (None if calls or not answer else answer),
            reasoning=reasoning or None,
            tool_calls=calls[:1] if self._one_call else calls,
            reasoning_tokens=parser.count_reasoning_tokens(list(tokens)) if self.reasons else 0,
        )

    def _without_reasoning(
        self, text: str, reasoning: str | None, content: str | None, calls: Sequence[ToolCall]
    ) -> str:
        """Return the answer as it was drawn, without its reasoning."""
        if not reasoning and (calls or not self.reasons):
            return text
        if not calls:
            return content or ""
        split = getattr(self._source.new(), "extract_reasoning", None)
        if split is not None:
            return split(text, self._source.request)[1] or ""
        # A parser that does all at once does not tell: its calls, a line each, stand for how the policy wrote them.
        return "\n".join([*([content] if content else []), *(json.dumps(c.as_openai()["function"]) for c in calls)])


class ReplyStream:
    """Reads one streamed answer, piece by piece."""

    def __init__(self, parser: ChatParser, source: ParserSource, *, one_call: bool) -> None:
        self._whole = parser
        self._source = source
        self._parser = source.new()
        self._one_call = one_call
        self._begun = False
        self._calls = False

    def read(self, piece: Candidate) -> tuple[ReplyDelta | None, Ended | None]:
        """Return what the next piece adds, None for nothing yet, and why the answer ended, if it did.

        An answer that comes in one piece is read as `ChatParser.read` reads it: with the calls that rewards saw.
        """
        if not self._begun and piece.finish is not None:
            delta: ReplyDelta | None = self._of(self._whole.read(piece.tokens, piece.text))
        else:
            delta = self._next(piece)
        self._begun = True
        self._calls = self._calls or bool(delta and delta.tool_calls)
        return delta, None if piece.finish is None else self._whole.ended(piece.finish, calls=self._calls)

    def _of(self, reply: Reply) -> ReplyDelta:
        calls = (CallDelta(i, c.id, c.name, c.arguments) for i, c in enumerate(reply.tool_calls))
        reasoning = reply.reasoning if self._whole.shows_reasoning else None
        return ReplyDelta(reply.content, reasoning, tuple(calls))

    def _next(self, piece: Candidate) -> ReplyDelta | None:
        delta = self._parser.parse_delta(
            delta_text=piece.text,
            delta_token_ids=list(piece.tokens),
            request=self._source.request,
            prompt_token_ids=list(self._source.prompt),
            finished=piece.finish is not None,
        )
        if delta is None:
            return None
        calls = tuple(_call(call) for call in delta.tool_calls if not self._one_call or call.index == 0)
        made = ReplyDelta(delta.content or None, delta.reasoning or None, calls)
        return made if any(made) else None


def _call(call: Any) -> CallDelta:
    function = call.function
    name, arguments = (None, None) if function is None else (function.name, function.arguments)
    return CallDelta(call.index, call.id, name, arguments)
