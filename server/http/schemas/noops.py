"""Fields that are known but not honoured: which values are accepted because they change nothing.

Clients send many fields with their default values, or to label a request. Any other value would change the answer, so
it is refused with a 400 that names the field. `parsing` removes nulls before this is applied.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from decoders.errors import InvalidRequest

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Noop:
    """A field that is not honoured.

    Args:
        schema: the JSON schema of the accepted values.
        reason: why other values are refused.
        accepts: returns whether a value changes nothing, given the value and the whole body.
    """

    schema: Json
    reason: str
    accepts: Callable[[Any, Mapping[str, Any]], bool]


def values(reason: str, *accepted: object) -> Noop:
    """Return a field of which these values are accepted, and the reason why others are refused."""
    known = [(type(value), value) for value in accepted]  # 0 is not false, nor 1 true
    schema: Json = {"enum": list(accepted)} if accepted else {"type": "null"}
    return Noop(schema, reason, lambda value, _: (type(value), value) in known)


_values = values


def _any(kind: type, name: str) -> Noop:
    return Noop({"type": name}, f"it must be of type {name}", lambda value, _: isinstance(value, kind))


_TEXT = _any(str, "string")
_OBJECT = _any(dict, "object")
_FLAG = _any(bool, "boolean")
_NO_TOOLS = "tools are called in /v1/chat/completions, by tools and tool_choice"
_NO_AUDIO = "answers are text"
_NO_MEDIA = "prompts are text"
_NO_RECORD = "nothing is stored"
_ONE_SERVER = "prompts are computed on this server"
_WHOLE = "no prompt is cut"
_NO_BEAMS = "there is no beam search"
_TEMPLATE = "the model's own chat template is used as it stands"

BODY: dict[str, Noop] = {
    # OpenAI's
    "audio": _values(_NO_AUDIO),
    "best_of": Noop(
        {"type": "integer", "description": "1, or n"},
        "ask for it with decoding: {'strategy': 'best_of_n'}",
        lambda value, body: type(value) is int and value in (1, body.get("n", 1)),
    ),
    "function_call": _values(_NO_TOOLS, "none", "auto"),
    "functions": _values(_NO_TOOLS, []),
    "metadata": _OBJECT,
    "modalities": _values(_NO_AUDIO, ["text"]),
    "moderation": _values("nothing is moderated"),
    "parallel_tool_calls": _FLAG,
    "prediction": _values("no prediction is used"),
    "prompt_cache_key": _TEXT,
    "prompt_cache_options": _OBJECT,  # prefixes are cached in any case
    "prompt_cache_retention": _values(_NO_RECORD, "in_memory", "in-memory"),
    "reasoning_effort": _values("the effort of reasoning cannot be set", "none"),
    "safety_identifier": _TEXT,
    "service_tier": _values("there is one tier", "auto", "default"),
    "store": _values(_NO_RECORD, False),
    "suffix": _values("text is not inserted before a suffix", ""),
    "tool_choice": _values(_NO_TOOLS, "none", "auto"),
    "tools": _values(_NO_TOOLS, []),
    "user": _TEXT,
    "verbosity": _values("verbosity cannot be set", "medium"),
    "web_search_options": _values("nothing is searched for"),
    # vLLM's
    "chat_template": _values(_TEMPLATE),
    "chat_template_kwargs": _values(_TEMPLATE, {}),
    "documents": _values(_TEMPLATE, []),
    "ec_transfer_params": _values(_ONE_SERVER),
    "include_reasoning": _values("reasoning is not separated from the answer", True),
    "kv_transfer_params": _values(_ONE_SERVER),
    "length_penalty": _values(_NO_BEAMS, 1),
    "logprob_token_ids": _values("use logprobs, which has the likeliest tokens"),
    "media_io_kwargs": _values(_NO_MEDIA, {}),
    "mm_payload": _values(_NO_MEDIA, "tensors"),
    "mm_processor_kwargs": _values(_NO_MEDIA, {}),
    "prompt_embeds": _values("prompts are text or token ids"),
    "repetition_detection": _values("no answer is ended for repeating itself"),
    "request_id": _TEXT,
    "return_mm_kwargs": _FLAG,
    "return_prompt_text": _values("use echo, in /v1/completions", False),
    "return_tokens_as_token_ids": values("tokens are written as text", False),
    "return_token_offsets": _values("prompts carry no offsets", False),
    "routed_experts_prompt_start": _values("answers carry no routed experts", 0),
    "session_id": _TEXT,
    "stream_interval": _any(int, "integer"),  # how many tokens a chunk has changes no answer
    "use_beam_search": _values(_NO_BEAMS, False),
    "watermarking": _values("answers carry no watermark", False),
    "vllm_xargs": _values("use decoding", {}),
    # A client library should have merged this into the body.
    "extra_body": Noop(
        {"type": "object", "description": "{}, or what the body says besides"},
        "its fields belong to the body itself",
        lambda value, body: isinstance(value, dict) and all(k in body and body[k] == v for k, v in value.items()),
    ),
}

RENDERED = frozenset({
    "chat_template", "chat_template_kwargs", "documents", "include_reasoning", "parallel_tool_calls",
    "reasoning_effort", "tool_choice", "tools",
})  # fmt: skip
"""Fields that are honoured for a chat, since they say how it is rendered and its answers are read."""

CHAT: dict[str, Noop] = {
    **{name: noop for name, noop in BODY.items() if name not in RENDERED},
    "echo": _values("the conversation is not repeated", False),
}

CALL: dict[str, Noop] = {"index": _any(int, "integer"), "provider_specific_fields": _OBJECT}
"""Fields of a call that a client sends back as it streamed in."""

MESSAGE: dict[str, Noop] = {
    # Fields of an assistant's message that a client sends back as it came from this server or another.
    "annotations": _values("annotations are not read", []),
    "audio": _values(_NO_MEDIA),
    "function_call": _values("use tool_calls"),
    "id": _TEXT,
    "images": _values(_NO_MEDIA, []),
    "provider_specific_fields": _OBJECT,
    "refusal": _values("put it into content", ""),
    "thinking_blocks": _values("reasoning is not read", []),
    "type": _values("messages are text", "text", "message"),
    "cache_control": _OBJECT,  # prefixes are cached in any case
}

PART: dict[str, Noop] = {"annotations": MESSAGE["annotations"], "cache_control": _OBJECT}


def without_noops(noops: Mapping[str, Noop], data: Mapping[str, Any], where: str = "") -> Json:
    """Return `data` without the fields in `noops`. Raises `InvalidRequest` for a value that would change the answer.

    Args:
        where: the path of `data` in the body, with a dot at its end.
    """
    for name in data:
        if name in noops and not noops[name].accepts(data[name], data):
            raise InvalidRequest(f"'{where}{name}' is not supported: {noops[name].reason}.", where + name)
    return {name: value for name, value in data.items() if name not in noops}


def messages_without_noops(messages: object) -> object:
    """Return the messages without such fields, in their parts too. What is not a message is left to validation."""
    if not isinstance(messages, list):
        return messages
    return [_message(m, f"messages.{i}.") if isinstance(m, Mapping) else m for i, m in enumerate(messages)]


def _message(message: Mapping[str, Any], where: str) -> Json:
    kept = without_noops(MESSAGE, message, where)
    if isinstance(kept.get("content"), list):
        kept["content"] = [
            without_noops(PART, part, f"{where}content.{j}.") if isinstance(part, Mapping) else part
            for j, part in enumerate(kept["content"])
        ]
    if isinstance(kept.get("tool_calls"), list):
        kept["tool_calls"] = [
            without_noops(CALL, call, f"{where}tool_calls.{j}.") if isinstance(call, Mapping) else call
            for j, call in enumerate(kept["tool_calls"])
        ]
    older = kept.pop("reasoning_content", None)  # the older name
    return kept if older is None else {"reasoning": older, **kept}


def described(noops: Mapping[str, Noop]) -> Callable[[Json], None]:
    """Return a function that adds these fields to a model's JSON schema."""

    def add(schema: Json) -> None:
        properties = schema.setdefault("properties", {})
        for name, noop in noops.items():
            properties[name] = {
                "description": "Not honoured: only values that change nothing are accepted.",
                **noop.schema,
            }

    return add
