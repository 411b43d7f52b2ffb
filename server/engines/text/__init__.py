"""Between text and a model's tokens: encoding prompts, chat templates, and reading answers token by token."""

from server.engines.text.protocol import Chat, Message, Text, Turn

__all__ = ["Chat", "Message", "Text", "Turn"]
