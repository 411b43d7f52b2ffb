"""How far an answer's law is from the frozen policy pi.

A guided policy multiplies next-token laws [GenARM, Xu et al. 2024; DeRa and proxy tuning, Liu et al. 2024], and a
temperature T flattens or sharpens them:

    p(y_t | .) ~ ( pi(y_t | .) prod_i pi_i(y_t | .)^{w_i} exp(sum_j lambda_j Q_j(., y_t)) )^{1/T},   . = x, y_<t

It is still a policy that one can sample from, so every strategy runs on it unchanged. This file measures its distance
from pi, log p(y) - log pi(y) of one answer, with pi at temperature 1. A strategy that chooses among draws of p adds the
divergence of its choice from p, by the chain rule.
"""

from dataclasses import dataclass, replace

from decoders.core import Candidate, Prompt, Sampling
from decoders.events import KL
from decoders.models import Models
from decoders.parts.concurrency import together
from decoders.policy import TokenLaw


@dataclass(frozen=True, slots=True)
class Distance:
    """log p(y | x) - log pi(y | x) of one completion, and log pi(y | x), in nats.

    For y ~ p the first is an unbiased estimate of KL(p || pi) from one sample. It is None where more than guides and
    temperature shapes p (top-p, top-k, penalties, a grammar and the like), since p(y) is unknown then.
    """

    log_ratio: float | None
    policy_logprob: float
    scored_tokens: int


def is_measurable(models: Models, sampling: Sampling) -> bool:
    """Return whether there is a distance to measure. Only an engine with guides can score the tempered policy."""
    if sampling.guides or sampling.is_greedy:
        return True
    return bool(models.policy.guides) and sampling.is_untruncated and not sampling.is_policy_law


async def distance(models: Models, prompt: Prompt, completion: Candidate, sampling: Sampling) -> Distance:
    """Return the distance of a completion that was drawn by `sampling`.

    At temperature 0 the completion is the only one there is: p(y) = 1.
    """
    length = len(prompt.tokens) + len(completion.tokens)
    policy = models.policy.logprob(prompt, completion, TokenLaw())
    if sampling.is_greedy:
        own = await policy
        return Distance(-own, own, length)
    if not sampling.is_untruncated:
        return Distance(None, await policy, length)
    if completion.logprobs is not None and sampling.is_policy_law:  # the engine has reported log p
        own = await policy
        return Distance(sum(token.logprob for token in completion.logprobs) - own, own, length)
    t = sampling.temperature
    law = TokenLaw(1 / t, {name: weight / t for name, weight in sampling.guides.items()})
    own, drawn = await together((policy, models.policy.logprob(prompt, completion, law)))
    return Distance(drawn - own, own, 2 * length)


def divergence(choice: KL, distance: Distance | None, sampling: Sampling) -> KL | None:
    """Return the KL of the law that chooses among draws by `sampling`.

    `choice` is its KL from the law of the draws. Where the distance of the draws from the frozen policy is known, the
    sum of both is the KL from the frozen policy, by the chain rule. Otherwise the KL is from the law of the draws,
    which `reference` names; None where guides shape that law.
    """
    if distance is not None and distance.log_ratio is not None:
        estimator = "log_ratio" if choice.estimator == "exact" else f"{choice.estimator}+log_ratio"
        return KL(choice.nats + distance.log_ratio, estimator, choice.pointwise)
    if sampling.guides:
        return None
    return replace(choice, reference="policy" if sampling.is_policy_law else "sampling")


def with_logprobs(sampling: Sampling) -> Sampling:
    """Return the same sampling with the log-probability of each drawn token, by which KL is better known."""
    return sampling if sampling.logprobs is not None else replace(sampling, logprobs=0)
