"""The fields that strategies share, and what each must offer the server."""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from decoders.core import Prompt, Rng, Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost, Info, Run
from decoders.models import Models
from decoders.parts.budget import Budget

Weight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
RewardNames = Annotated[
    str | Annotated[dict[str, Weight], Field(min_length=1)] | None,
    Field(description="A loaded reward, or several with weights: the weighted sum is what counts."),
]
GuideWeights = Annotated[
    dict[str, float],
    Field(description="Loaded guides with weights: the policy becomes policy * prod guide^weight, token by token."),
]


class Decoder(BaseModel, frozen=True, extra="forbid"):
    """One request-time strategy: a frozen value, parsed from the request, that knows how to decode."""

    independent: ClassVar[bool] = True
    """Whether the n results of a run are independent draws of one law; otherwise they come from one pool."""

    scores_prompts: ClassVar[bool] = False
    """Whether the strategy supports `max_tokens` 0, which asks for the prompt's log-probabilities alone."""

    info: ClassVar[type[Info] | None] = None
    """The type of the diagnostics that its results carry, if any."""

    strategy: str
    reward: RewardNames = None
    guides: GuideWeights = Field(default_factory=dict)
    return_candidates: bool = Field(False, description="Add every candidate, with its rewards, to the response.")
    return_kl: bool = Field(
        False, description="Add the divergence from the policy, in nats, to each result, as well as it can be known."
    )
    budget: Budget = Field(default_factory=Budget, description="Refuse the request if it may draw more than this.")

    @abstractmethod
    def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        """Run the strategy: yield `Step`s of final tokens, then one `Done` with `sampling.n` results.

        Closing the generator, or cancelling the task that runs it, stops all the engine work that it began. The
        generator raises `InvalidRequest`, `RewardFailed` or `EngineFailed`.

        Args:
            prompt: What to continue.
            models: The policy and the rewards.
            sampling: How to sample the policy, and how many results are asked for.
            rng: All the randomness of the run.
        """

    @abstractmethod
    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        """Return how many sequences, rollouts included, the strategy may draw at the same time for one prompt.

        Rollouts that a store has now are not counted. If they leave it before they are read, they are drawn all the
        same, and the engine queues what is over the promise.
        """

    @abstractmethod
    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        """Return the most candidates and tokens that the strategy may draw for one prompt, discarded ones included.

        The bound rests on the contract of `Policy`: a sample has at most `max_tokens` tokens, and a continuation at
        most as many as the call allows, and never more than `max_tokens` in the whole answer.
        """

    def check(self, models: Models, sampling: Sampling) -> None:
        """Raise `InvalidRequest` for a request that the strategy cannot honour, before any work."""
        models.resolve_guides(self.guides)
        if sampling.max_tokens == 0 and not self.scores_prompts:
            raise InvalidRequest(
                "max_tokens: 0 only scores the prompt, and leaves this strategy nothing to choose from.",
                "sampling.max_tokens",
            )

    def guided(self, models: Models, sampling: Sampling) -> Sampling:
        """Return `sampling` of the policy as this request guides it."""
        return replace(sampling, guides=models.resolve_guides(self.guides))
