"""A chat whose last message is the beginning of the assistant's turn: how it is rendered, and what was rendered."""

from dataclasses import replace

from server.engines.text.protocol import Chat, Message


def to_render(chat: Chat) -> Chat:
    """Return the chat that a template is to render: a turn that is to be continued and is empty is a new one."""
    if chat.turn == "continued" and not chat.messages[-1]["content"].strip():
        return replace(chat, messages=chat.messages[:-1], turn="new")
    return chat


def as_rendered(chat: Chat, text: str) -> tuple[Message, ...]:
    """Return the messages as they stand in `text`, the rendered chat: a template may strip the last one's end."""
    *before, last = chat.messages
    if chat.turn != "continued":
        return chat.messages
    if not last["content"].strip():
        return (*before, {**last, "content": ""})
    if not text.endswith(last["content"]):
        return (*before, {**last, "content": last["content"].rstrip()})
    return chat.messages
