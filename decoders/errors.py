"""What can go wrong in a request, as types. Their HTTP status codes are in `server.http.errors`.

DecantError
├── InvalidRequest      the caller's mistake; names the field
│   ├── UnknownReward   a reward that is not loaded; lists those that are
│   └── UnknownGuide    the same of a guide
├── RewardFailed                a reward raised, timed out, or gave nothing usable
│   └── PublicRewardFailure     one whose message clients may read
│       ├── RewardTimeout
│       ├── UnreadableText      a text that the reward's model cannot read: too long, or empty
│       └── NoUsableReward      too few candidates have a finite reward to choose from
└── EngineFailed        the engine lost this request
    └── EngineDead      the engine lost every request, and will not come back by itself
"""

from collections.abc import Iterable


class DecantError(Exception):
    """The root of everything that Decant raises on purpose."""


class InvalidRequest(DecantError):
    """The request cannot be honoured as it stands; `field` names what to change.

    Strategies and engines name it in their own terms: `strategy.PARAMETER`, `sampling.PARAMETER`, `prompt`, `messages`
    or `completions`. Whoever parsed the request translates the name to the field that the client wrote.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownReward(InvalidRequest):
    """A reward that is not loaded; the message lists those that are."""

    def __init__(self, name: str, loaded: Iterable[str], field: str) -> None:
        known = ", ".join(sorted(loaded)) or "none"
        super().__init__(f"The reward '{name}' is not loaded. Loaded rewards: {known}.", field)


class UnknownGuide(InvalidRequest):
    """A guide that is not loaded; the message lists those that are."""

    def __init__(self, name: str, loaded: Iterable[str], field: str) -> None:
        known = ", ".join(sorted(loaded)) or "none"
        super().__init__(f"The guide '{name}' is not loaded. Loaded guides: {known}.", field)


class RewardFailed(DecantError):
    """A reward model gave no answer; the message says which one and why.

    The message is for the log: it may have the text of another server or of a function's exception. `public` says what
    of it a client may read; without it a client reads that the reward failed.
    """

    def __init__(self, message: str, *, public: str | None = None) -> None:
        super().__init__(message)
        self.public = public


class PublicRewardFailure(RewardFailed):
    """A failure whose message has nothing that a client may not read."""

    def __init__(self, message: str, *, public: str | None = None) -> None:
        super().__init__(message, public=public or message)


class RewardTimeout(PublicRewardFailure):
    """A reward model gave no answer in time."""


class UnreadableText(PublicRewardFailure):
    """A text is too long for the reward's model, or empty; the fault is the text's."""


class NoUsableReward(PublicRewardFailure):
    """Too few candidates have a finite reward."""


class EngineFailed(DecantError):
    """The engine failed this request; others go on."""


class EngineDead(EngineFailed):
    """The engine is gone; the server must be restarted."""
