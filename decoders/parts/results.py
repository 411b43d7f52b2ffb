"""From what was chosen, and what the strategy knows of the choice, to results: the same for every strategy."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from decoders.core import Prompt, Sampling
from decoders.events import KL, Cost, Info, Result, ScoredCandidate
from decoders.models import Models
from decoders.parts.concurrency import together
from decoders.parts.divergence import Distance, distance, divergence, is_measurable


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate at `index` was chosen.

    `kl` is the divergence of the law of the choice from the law of the draws, None where no figure may be claimed.
    """

    index: int
    kl: KL | None = None
    info: Info | None = None


def place(chosen: ScoredCandidate, candidates: Sequence[ScoredCandidate]) -> int:
    """Return the place of this very candidate, of which there may be equal ones."""
    return next(i for i, candidate in enumerate(candidates) if candidate is chosen)


async def results(
    prompt: Prompt,
    models: Models,
    sampling: Sampling,
    candidates: Sequence[ScoredCandidate],
    choices: Sequence[Choice],
    *,
    measure: bool,
    mean_rewards: Mapping[str, float] | None = None,
) -> tuple[tuple[Result, ...], Cost]:
    """Return a result for each choice, in order, and the cost of measuring them.

    Args:
        prompt: The prompt that was answered.
        models: The models that are loaded.
        sampling: How the candidates were drawn, guides included.
        candidates: All candidates, judged.
        choices: Those that are returned.
        measure: Whether to score each answer under the frozen policy, for its KL and log-probability.
        mean_rewards: The mean of each reward over the candidates, where the strategy reports it.
    """
    chosen = [candidates[choice.index] for choice in choices]
    distances: list[Distance | None] = [None] * len(chosen)
    cost = Cost()
    if measure and is_measurable(models, sampling) and all(c.proposal is None for c in chosen):
        started = time.perf_counter()
        measured = await together(distance(models, prompt, c.candidate, sampling) for c in chosen)
        distances = list(measured)
        read = sum(d.scored_tokens for d in measured)
        cost = Cost(scored_tokens=read, seconds={"score": time.perf_counter() - started})
    made = [
        _result(c, choice, d, sampling, mean_rewards) for c, choice, d in zip(chosen, choices, distances, strict=True)
    ]
    return tuple(made), cost


def _result(
    scored: ScoredCandidate,
    choice: Choice,
    distance: Distance | None,
    sampling: Sampling,
    mean_rewards: Mapping[str, float] | None,
) -> Result:
    if scored.proposal is not None:
        kl = None if choice.kl is None else _chained(choice.kl, scored.proposal.kl)
        logprob = scored.proposal.policy_logprob
    else:
        kl = None if choice.kl is None else divergence(choice.kl, distance, sampling)
        logprob = None if distance is None else distance.policy_logprob
    return Result(scored, kl, logprob, mean_rewards, choice.info)


def _chained(choice: KL, draws: KL | None) -> KL | None:
    """Return the divergence of a choice among draws of another strategy, by the chain rule, through that one's law."""
    if draws is None or not draws.pointwise:
        return None
    return KL(choice.nats + draws.nats, f"{choice.estimator}+{draws.estimator}", reference=draws.reference)
