"""The base class of all that this server answers with."""

from pydantic import BaseModel


class ResponseModel(BaseModel, frozen=True, extra="forbid"):
    """A JSON object of an answer. Fields that were not given to the constructor are left out of the JSON."""

    def to_json(self) -> bytes:
        """Return the JSON, with null for numbers that are not finite."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_unset=True)
