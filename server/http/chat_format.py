"""The format of /v1/chat/completions, whole or streamed: what is said, what was thought, and which tools are called."""

from collections.abc import Sequence
from typing import Any

from decoders.core import Candidate, Finish, Prompt, TokenLogprob
from decoders.reply import Reply
from server.engines.text.chat_parser import CallDelta, ChatParser, ReplyDelta, ReplyStream
from server.http.logprob_alignment import HeldLogprobs, aligned
from server.http.openai_logprobs import chat_logprobs
from server.http.schemas.responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatFinishReason,
    ChatLogprobs,
    Delta,
)
from server.http.schemas.tool_calls import FunctionCallDelta, ToolCall, ToolCallDelta
from server.http.token_details import NO_DETAILS, TokenDetails


class ChatFormat:
    """The format of /v1/chat/completions; `top` and `details` as in `CompletionFormat`."""

    prefix = "chatcmpl-"

    def __init__(self, top: int | None, details: TokenDetails = NO_DETAILS) -> None:
        self._top = top
        self._details = details
        self._of_prompt: dict[str, Any] = {}  # until it is sent
        self._held: dict[int, HeldLogprobs] = {}  # by the index of the streamed choice
        self._streams: dict[int, ReplyStream] = {}  # the same, where answers are taken apart
        self._spoken: set[int] = set()  # choices whose role has been sent

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> ChatChoice:
        assert candidate.finish is not None
        message, finish = _message(prompt, candidate)
        self._of_prompt = self._details.of_prompt(prompt, candidate)
        return ChatChoice(
            index=index,
            message=message,
            logprobs=self._logprobs(aligned(candidate.logprobs or (), len(candidate.text))),
            finish_reason=finish,
            stop_reason=candidate.stop,
            **self._details.of_answer(candidate),
        )

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> ChatChunkChoice | None:
        entries = self._held.setdefault(index, HeldLogprobs()).take(piece)
        finish: ChatFinishReason | None = piece.finish
        if isinstance(prompt.parser, ChatParser):
            if index not in self._streams:
                self._streams[index] = prompt.parser.stream()
            read, finish = self._streams[index].read(piece)
            if read is None and finish is None and not entries and not self._details.ids:
                return None
            fields = {} if read is None else _fields(read)
        else:
            fields = {"content": piece.text}
        if index not in self._spoken:
            if not self._spoken:
                self._of_prompt = self._details.of_prompt(prompt, piece)
            self._spoken.add(index)
            fields = {"role": "assistant", **fields}
        return ChatChunkChoice(
            index=index,
            delta=Delta(**fields),
            logprobs=self._logprobs(entries),
            finish_reason=finish,
            stop_reason=piece.stop,
            **self._details.of_answer(piece),
        )

    def answer(self, choices: Sequence[Any], **rest: Any) -> ChatCompletion:
        return ChatCompletion(object="chat.completion", choices=choices, **rest, **self._of_prompt)

    def chunk(self, choices: Sequence[Any], **rest: Any) -> ChatCompletionChunk:
        of_prompt, self._of_prompt = self._of_prompt, {}
        return ChatCompletionChunk(object="chat.completion.chunk", choices=choices, **rest, **of_prompt)

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        return None if self._top is None else chat_logprobs(entries, top=self._top > 0)


def parts(prompt: Prompt, reply: Reply) -> dict[str, Any]:
    """Return the reasoning and the calls of a reply, as far as there are any and the request shows them."""
    found: dict[str, Any] = {}
    if reply.reasoning is not None and isinstance(prompt.parser, ChatParser) and prompt.parser.shows_reasoning:
        found["reasoning"] = reply.reasoning
    if reply.tool_calls:
        found["tool_calls"] = [ToolCall.model_validate(call.as_openai()) for call in reply.tool_calls]
    return found


def _message(prompt: Prompt, candidate: Candidate) -> tuple[AssistantMessage, ChatFinishReason]:
    finish: Finish | None = candidate.finish
    assert finish is not None
    if not isinstance(prompt.parser, ChatParser):
        return AssistantMessage(role="assistant", content=candidate.text, refusal=None), finish
    reply = prompt.reply(candidate)
    message = AssistantMessage(role="assistant", content=reply.content, refusal=None, **parts(prompt, reply))
    return message, prompt.parser.ended(finish, calls=bool(reply.tool_calls))


def _fields(delta: ReplyDelta) -> dict[str, Any]:
    """Return what a delta says, in OpenAI's fields."""
    fields: dict[str, Any] = {"content": delta.content, "reasoning": delta.reasoning}
    if delta.tool_calls:
        fields["tool_calls"] = [_call(call) for call in delta.tool_calls]
    return {name: value for name, value in fields.items() if value is not None}


def _call(call: CallDelta) -> ToolCallDelta:
    head: dict[str, Any] = {} if call.id is None else {"id": call.id, "type": "function"}
    named = {"name": call.name, "arguments": call.arguments}
    function = FunctionCallDelta(**{name: value for name, value in named.items() if value is not None})
    return ToolCallDelta(index=call.index, **head, function=function)
