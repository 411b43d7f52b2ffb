"""Between text and a model's tokens: encoding prompts, chat templates, and reading answers token by token."""

from server.engines.text.protocol import Message, Text, Turn

__all__ = ["Message", "Text", "Turn"]
