"""The six prompts of `make demo`: three texts to continue and three messages to answer, none seen in training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoPrompt:
    """A text to continue, or a user's message to answer if `chat` is true."""

    text: str
    chat: bool = False


PROMPTS = (
    DemoPrompt("Honestly, this movie"),
    DemoPrompt("The music in this thriller"),
    DemoPrompt("The story of the comedy"),
    DemoPrompt("How was the film?", chat=True),
    DemoPrompt("Write a two sentence review of the drama.", chat=True),
    DemoPrompt("Would you see the film again?", chat=True),
)
