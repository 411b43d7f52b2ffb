"""Completions that are already there, scored by each reward in one call."""

import time
from collections.abc import Mapping, Sequence

from decoders.core import Candidate, Prompt, Rewards
from decoders.events import Cost
from decoders.models import Reward
from decoders.parts.concurrency import together


async def score(
    prompt: Prompt, completions: Sequence[Candidate], rewards: Mapping[str, Reward]
) -> tuple[list[Rewards], Cost]:
    """Return the rewards of each completion by name, in order, and the cost. Raise `RewardFailed`."""
    started = time.perf_counter()
    columns = await together(reward.score(prompt, completions) for reward in rewards.values())
    scores: list[Rewards] = [dict(zip(rewards, row, strict=True)) for row in zip(*columns, strict=True)]
    tokens = tokens_read(prompt, completions) * len(rewards)
    cost = Cost(scored_tokens=tokens, seconds={"score": time.perf_counter() - started})
    return scores if rewards else [{} for _ in completions], cost


def tokens_read(prompt: Prompt, completions: Sequence[Candidate]) -> int:
    """Return the tokens that one reward model reads to score the completions, each after the whole prompt."""
    return sum(len(prompt.tokens) + len(completion.tokens) for completion in completions)
