"""The section `logs`."""

from typing import Literal

from pydantic import Field

from server.settings.section import Section


class LogSettings(Section):
    """What the server writes to stderr. Inside `vllm serve` the format and the level are vLLM's."""

    format: Literal["text", "json"] = Field("text", description="Each record as a line of text, or of JSON.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lines below it are left out.")
    access: bool = Field(True, description="A line for each request that was answered.")
    texts: bool = Field(
        False, description="Let in the messages of exceptions, which may quote prompts, completions and other servers."
    )
