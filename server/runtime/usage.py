"""What one request uses: tokens read and generated, sequences, calls of rewards."""

from collections.abc import Sequence
from dataclasses import replace

from decoders.core import Candidate, Prompt
from decoders.events import Event, Step
from decoders.models import Models, Reward, scores_all


class Usage:
    """Counts what a request uses as its events come.

    Args:
        prompt_tokens: What it reads: prompts, and texts to be scored.
        max_generated: The most tokens that it may generate.
        reward_calls: Calls of rewards that are not made by `counting` models.
        steps_are_all: Whether its steps have every token that is generated, as soon as it is.
    """

    def __init__(self, prompt_tokens: int, max_generated: int, reward_calls: int = 0, *, steps_are_all: bool) -> None:
        self.prompt_tokens = prompt_tokens
        self.reserved = prompt_tokens + max_generated
        self.sequences = 0
        self.reward_calls = reward_calls
        self.admitted = False
        self._steps_are_all = steps_are_all
        self._stepped: dict[int, int] = {}  # tokens of each run that has not ended
        self._generated = 0  # tokens of the runs that have ended

    @property
    def generated_tokens(self) -> int:
        """How many tokens were generated, as far as that is known: all of them once the request is answered."""
        return self._generated + sum(self._stepped.values())

    @property
    def read_tokens(self) -> int:
        """How many tokens were read: none before the request was admitted."""
        return self.prompt_tokens if self.admitted else 0

    def add(self, index: int, event: Event) -> None:
        """Count an event of the run number `index`."""
        if isinstance(event, Step):
            self._stepped[index] = self._stepped.get(index, 0) + len(event.piece.tokens)
        else:
            self._stepped.pop(index, None)
            self._generated += event.cost.generated_tokens

    def charged(self, *, cut_short: bool) -> int:
        """Return how many tokens count against the client's limit: those that were used, as far as that is known.

        What a request had generated when its client left, or when its time was over, is known only where all of it was
        sent. Otherwise all that it might have generated counts: leaving early is no way around a limit.
        """
        if not self.admitted:
            return 0
        if cut_short and not self._steps_are_all:
            return self.reserved
        return self.prompt_tokens + self.generated_tokens

    def counting(self, models: Models) -> Models:
        """Return the models with rewards whose calls are counted here."""
        return replace(models, rewards={name: _Counted(reward, self) for name, reward in models.rewards.items()})


class _Counted:
    """A reward whose calls are counted."""

    def __init__(self, reward: Reward, usage: Usage) -> None:
        self._reward = reward
        self._usage = usage

    @property
    def scores_all(self) -> bool:
        return scores_all(self._reward)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        self._usage.reward_calls += 1
        return await self._reward.score(prompt, completions)
