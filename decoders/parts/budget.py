"""What a request may draw, checked before it draws anything."""

from typing import Annotated

from pydantic import BaseModel, Field

from decoders.core import Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost

Bound = Annotated[int, Field(ge=1)] | None


class Budget(BaseModel, frozen=True, extra="forbid"):
    """The most candidates and generated tokens of a request, all its prompts and results together."""

    candidates: Bound = Field(None, description="Completions, or blocks for a strategy that draws those.")
    tokens: Bound = Field(None, description="Generated tokens, of every candidate.")

    def check(self, most: Cost, whose: str, field: str) -> None:
        """Raise `InvalidRequest` where `most` is over it."""
        pairs = (
            ("candidates", most.candidates, self.candidates),
            ("tokens", most.generated_tokens, self.tokens),
        )
        for what, need, bound in pairs:
            if bound is not None and need > bound:
                raise InvalidRequest(
                    f"This request may draw up to {need} {what}, over {whose} budget of {bound}: ask for less, or for "
                    "fewer or shorter answers.",
                    field,
                )


def times(sampling: Sampling, candidates: int) -> Cost:
    """So many completions of full length."""
    return Cost(candidates, candidates * sampling.max_tokens)
