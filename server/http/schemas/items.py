"""Lists of a body, which are validated up to their first item that is wrong.

Pydantic would go on, and a list of a million wrong items would have a million errors, of which one is sent.
"""

from typing import Annotated, TypeVar

from pydantic import Field

Item = TypeVar("Item")

Items = Annotated[list[Item], Field(fail_fast=True)]
