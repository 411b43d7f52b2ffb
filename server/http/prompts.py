"""The prompts of a request body, as the policy's tokens."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from decoders.core import Prompt
from decoders.errors import InvalidRequest
from server.engines.text import Chat, Text
from server.http.schemas.chat import ChatBody, ChatTemplateOptions
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.messages import ChatMessage


async def encode_prompts(body: ChatBody | CompletionsBody, text: Text) -> list[Prompt]:
    """Return the prompts of a body: one for a chat. Raises `InvalidRequest`."""
    if isinstance(body, ChatBody):
        chat = chat_of(body.messages, body)
        chat = replace(chat, grammar=body.grammar, skip_special_tokens=body.skip_special_tokens)
        return [await text.chat(chat)]
    return await asyncio.gather(*(_encode(prompt, text) for prompt in body.prompts))


async def encode_chat(messages: Sequence[ChatMessage], options: ChatTemplateOptions, text: Text) -> Prompt:
    """Return the messages as the policy's chat template renders them. Raises `InvalidRequest`."""
    return await text.chat(chat_of(messages, options))


def chat_of(messages: Sequence[ChatMessage], options: ChatTemplateOptions) -> Chat:
    """Return the messages and how they are to be rendered."""
    return Chat(tuple(message.plain() for message in messages), options.turn, options.options)


async def _encode(prompt: str | list[int], text: Text) -> Prompt:
    if isinstance(prompt, str):
        return await text.encode(prompt)
    check_vocabulary(prompt, text, "prompt")
    return text.given(prompt)


def check_vocabulary(tokens: Sequence[int], text: Text, field: str) -> None:
    """Raise `InvalidRequest` for token ids that the policy does not have."""
    unknown = [token for token in tokens if token >= text.vocab_size]
    if unknown:
        raise InvalidRequest(f"Token ids {unknown[:5]} are outside the vocabulary of {text.vocab_size} tokens.", field)
