"""Prompts to train rewards and guides with, and held-out prompts to measure them on.

The two sets share no frame, such as "The {subject} was". A frame is either raw text to continue or a user's message.
"""

SUBJECTS = ("movie", "film", "picture", "comedy", "thriller", "drama", "documentary", "sequel")

RAW_FRAMES = (
    "The {subject} was",
    "This {subject} is",
    "I watched this {subject} and",
    "Overall, the {subject}",
    "The acting in this {subject}",
    "After seeing the {subject}, I",
    "The ending of the {subject}",
    "The script of this {subject}",
    "I thought the {subject}",
    "We saw the {subject} last night and",
    "If you like this kind of {subject},",
    "The director of the {subject}",
    "My review of the {subject}:",
    "The first half of this {subject}",
)
CHAT_FRAMES = (
    "Write one sentence about the {subject}.",
    "Give a short review of the {subject}.",
    "What did you think of the {subject}?",
    "Describe the acting in the {subject}.",
    "Tell me about the last {subject} you saw.",
)
HELD_OUT_RAW_FRAMES = (
    "The music in this {subject}",
    "Honestly, this {subject}",
    "The story of the {subject}",
    "The lead actor of the {subject}",
)
HELD_OUT_CHAT_FRAMES = (
    "Write a two sentence review of the {subject}.",
    "How was the {subject}?",
    "Say something about the ending of the {subject}.",
    "Would you see the {subject} again?",
)


def fill(frames: tuple[str, ...], subjects: tuple[str, ...] = SUBJECTS) -> list[str]:
    """Return every frame with every subject, frame by frame."""
    return [frame.format(subject=subject) for frame in frames for subject in subjects]


TRAINING_RAW = fill(RAW_FRAMES)
TRAINING_CHAT = fill(CHAT_FRAMES)
HELD_OUT_RAW = fill(HELD_OUT_RAW_FRAMES, ("movie", "comedy", "thriller"))
HELD_OUT_CHAT = fill(HELD_OUT_CHAT_FRAMES, ("film", "drama"))
