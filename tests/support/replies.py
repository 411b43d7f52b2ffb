"""Answers to chats, taken apart: texts, and calls of tools."""

from decoders.reply import Reply


def said(*texts: str) -> list[Reply]:
    """Return replies that say these texts."""
    return [Reply(text, text) for text in texts]
