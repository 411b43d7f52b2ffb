"""The prompts of a request body, as the policy's tokens."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from decoders.core import Prompt
from decoders.errors import InvalidRequest
from server.engines.text import Chat, Text
from server.http.schemas.chat import ChatBody, ChatTemplateOptions
from server.http.schemas.common import PromptOptions
from server.http.schemas.completions import CompletionsBody
from server.http.schemas.messages import ChatMessage


async def encode_prompts(body: ChatBody | CompletionsBody, text: Text) -> list[Prompt]:
    """Return the prompts of a body: one for a chat. Raises `InvalidRequest`."""
    if isinstance(body, ChatBody):
        chat = chat_of(body.messages, body)
        chat = replace(chat, grammar=body.grammar, skip_special_tokens=body.skip_special_tokens)
        chat = replace(chat, cut=body.truncate_prompt_tokens is not None)
        prompts = [await text.chat(chat)]
    else:
        prompts = await asyncio.gather(*(_encode(prompt, body, text) for prompt in body.prompts))
    return [replace(await _cut(p, body, text), cache_salt=body.cache_salt, priority=body.priority) for p in prompts]


async def _cut(prompt: Prompt, body: PromptOptions, text: Text) -> Prompt:
    """Return the prompt with as many of its tokens as the body keeps; there is room for one more in the context."""
    keep, most = body.truncate_prompt_tokens, text.max_model_len - 1
    if keep is None:
        return prompt
    if keep > most:
        message = f"truncate_prompt_tokens is {keep}: with one token to come, a prompt has at most {most}."
        raise InvalidRequest(message, "truncate_prompt_tokens")
    keep = most if keep == -1 else keep
    if keep >= len(prompt.tokens):
        return prompt
    start = len(prompt.tokens) - keep if body.truncation_side == "left" else 0
    cut = await text.given(prompt.tokens[start : start + keep])
    return replace(prompt, tokens=cut.tokens, text=cut.text)


async def encode_chat(messages: Sequence[ChatMessage], options: ChatTemplateOptions, text: Text) -> Prompt:
    """Return the messages as the policy's chat template renders them. Raises `InvalidRequest`."""
    return await text.chat(chat_of(messages, options))


def chat_of(messages: Sequence[ChatMessage], options: ChatTemplateOptions) -> Chat:
    """Return the messages and how they are to be rendered."""
    return Chat(tuple(message.plain() for message in messages), options.turn, options.options)


async def _encode(prompt: str | list[int], body: CompletionsBody, text: Text) -> Prompt:
    if isinstance(prompt, str):
        cut = body.truncate_prompt_tokens is not None
        return await text.encode(prompt, special=body.add_special_tokens, cut=cut)
    check_vocabulary(prompt, text, "prompt")
    if len(prompt) >= text.max_model_len:  # it is refused, or cut: nobody reads its text
        return Prompt(tuple(prompt), "")
    return await text.given(prompt)


def check_vocabulary(tokens: Sequence[int], text: Text, field: str) -> None:
    """Raise `InvalidRequest` for token ids that the policy does not have."""
    unknown = [token for token in tokens if token >= text.vocab_size]
    if unknown:
        raise InvalidRequest(f"Token ids {unknown[:5]} are outside the vocabulary of {text.vocab_size} tokens.", field)
