"""How far an answer's law is from the frozen policy pi.

A guided policy multiplies next-token laws [GenARM, Xu et al. 2024; DeRa and proxy tuning, Liu et al. 2024], and a
temperature T flattens or sharpens them:

    p(y_t | .) ~ ( pi(y_t | .) prod_i pi_i(y_t | .)^{w_i} exp(sum_j lambda_j Q_j(., y_t)) )^{1/T},   . = x, y_<t

It is still a policy one can sample from, so every strategy runs on it unchanged. This file knows its distance from pi:
log p(y) - log pi(y) of one answer, with pi as it stands, at temperature 1. A strategy that chooses among draws of p
adds the divergence of its choice from p, by the chain rule.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from decoders.core import Candidate, Prompt, Sampling, TokenLaw
from decoders.events import KL, Cost
from decoders.models import Models
from decoders.parts.concurrency import together


@dataclass(frozen=True, slots=True)
class Distance:
    """log p(y | x) - log pi(y | x) of one completion, and log pi(y | x), in nats.

    For y ~ p the first is an unbiased estimate of KL(p || pi) from one sample. It is None where more than guides and
    temperature shapes p (top-p, top-k, penalties, a grammar and the like): nobody knows p(y) then.
    """

    log_ratio: float | None
    policy_logprob: float
    scored_tokens: int


async def distance(models: Models, prompt: Prompt, completion: Candidate, sampling: Sampling) -> Distance:
    """The distance of `completion`, drawn by `sampling`. At temperature 0 it is the only answer there is: p(y) = 1."""
    length = len(prompt.tokens) + len(completion.tokens)
    policy = models.policy.logprob(prompt, completion, TokenLaw())
    if sampling.is_greedy:
        own = await policy
        return Distance(-own, own, length)
    if not sampling.is_untruncated:
        return Distance(None, await policy, length)
    if completion.logprobs is not None and sampling.is_policy_law:  # the engine has said log p already
        own = await policy
        return Distance(sum(token.logprob for token in completion.logprobs) - own, own, length)
    t = sampling.temperature
    law = TokenLaw(1 / t, {name: weight / t for name, weight in sampling.guides.items()})
    own, drawn = await together((policy, models.policy.logprob(prompt, completion, law)))
    return Distance(drawn - own, own, 2 * length)


async def distances(
    models: Models, prompt: Prompt, answers: Sequence[Candidate], sampling: Sampling, *, asked: bool
) -> tuple[list[Distance | None], Cost]:
    """Of each answer, and what it took; None throughout where it is not asked for, is zero, or cannot be known."""
    if not (asked and _measurable(models, sampling)):
        return [None] * len(answers), Cost()
    started = time.perf_counter()
    far = await together(distance(models, prompt, answer, sampling) for answer in answers)
    passes = sum(d.scored_tokens for d in far)
    return list(far), Cost(scored_tokens=passes, seconds={"score": time.perf_counter() - started})


def _measurable(models: Models, sampling: Sampling) -> bool:
    """Whether there is a distance to measure. Only an engine with guides can score the tempered policy."""
    if sampling.guides or sampling.is_greedy:
        return True
    return bool(models.policy.guides) and sampling.is_untruncated and not sampling.is_policy_law


def divergence(choice: KL, distance: Distance | None, sampling: Sampling) -> KL | None:
    """KL of the law that chooses among draws by `sampling`, `choice` being its KL to the law of the draws.

    From the frozen policy where the draws' distance from it is known, by the chain rule: the sum. Else from the law of
    the draws, which is named; None where guides shape that.
    """
    if distance is not None and distance.log_ratio is not None:
        estimator = "log_ratio" if choice.estimator == "exact" else f"{choice.estimator}+log_ratio"
        return KL(choice.nats + distance.log_ratio, estimator, choice.pointwise)
    if sampling.guides:
        return None
    return replace(choice, reference="policy" if sampling.is_policy_law else "sampling")


def with_logprobs(sampling: Sampling) -> Sampling:
    """The same, with each drawn token's log-probability, by which KL is better known."""
    return sampling if sampling.logprobs is not None else replace(sampling, logprobs=0)
