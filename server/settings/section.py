"""What every section of the settings has in common."""

from typing import Any

from pydantic import BaseModel

EngineArgs = dict[str, Any]
"""vLLM's own engine arguments, passed on as they are."""


class SettingsError(Exception):
    """The settings cannot be served; each of `problems` is a line that says which field is wrong, and what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class Section(BaseModel, frozen=True, extra="forbid"):
    """A section of the settings; an unknown name in it is a mistake."""
