"""The section about requests' bodies."""

from pydantic import Field, PositiveInt

from server.settings.section import Section


class BodyLimits(Section):
    """How much JSON one request may bring; what is over is refused before it is parsed or validated."""

    max_bytes: PositiveInt = Field(2**24, description="Bytes; more are a 413.")
    max_values: PositiveInt = Field(
        2**19, description="Texts, numbers, lists and objects in all: each token id of a prompt is one."
    )
    max_objects: PositiveInt = Field(2**15, description="Lists and objects in all: each message of a chat is one.")
    max_fields: PositiveInt = Field(2**16, description="Fields of all objects together.")
    max_object_fields: PositiveInt = Field(2**12, description="Fields of one object.")
    max_depth: int = Field(64, ge=4, le=200, description="Lists and objects inside one another.")
