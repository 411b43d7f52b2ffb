"""What a request may draw at most, checked before it draws anything."""

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

    def check(self, cost: Cost, owner: str, field: str) -> None:
        """Raise `InvalidRequest` where `cost`, the most that a request may take, is over this budget.

        Args:
            cost: An upper bound on candidates and tokens.
            owner: Who set the budget, for the message: "its own", "this server's".
            field: The parameter to name in the error.
        """
        pairs = (
            ("candidates", cost.candidates, self.candidates),
            ("tokens", cost.generated_tokens, self.tokens),
        )
        for what, need, bound in pairs:
            if bound is not None and need > bound:
                raise InvalidRequest(
                    f"This request may draw up to {need} {what}, over {owner} budget of {bound}: ask for less, or for "
                    "fewer or shorter answers.",
                    field,
                )


def full_length(sampling: Sampling, candidates: int) -> Cost:
    """Return the cost of so many completions of full length."""
    return Cost(candidates, candidates * sampling.max_tokens)
