"""How far a guided answer is from the frozen policy.

A guided policy multiplies next-token laws [GenARM, Xu et al. 2024; DeRa and proxy tuning, Liu et al. 2024]:

    p(y_t | x, y_<t) ~ pi(y_t | x, y_<t) prod_i pi_i(y_t | x, y_<t)^{w_i} exp(sum_j lambda_j Q_j(x, y_<t, y_t))

It is still a policy one can sample from, so every strategy runs on it unchanged; only its distance from pi is new.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from decoders.core import Candidate, Law, Prompt, Sampling
from decoders.events import KL, Cost
from decoders.models import Models
from decoders.pool import together


@dataclass(frozen=True, slots=True)
class Distance:
    """log p(y | x) - log pi(y | x) of one completion, and log pi(y | x), in nats at the request's temperature.

    For y ~ p the first is an unbiased estimate of KL(p || pi) from one sample, as long as nothing but guides and
    temperature shapes the law: top-p, top-k, penalties and the like are left out of both.
    """

    log_ratio: float
    policy_logprob: float
    scored_tokens: int

    def beyond(self, choice: KL) -> KL:
        """KL to pi of a law that chooses among draws from p, `choice` being its KL to p: by the chain rule, the sum."""
        return KL(choice.nats + self.log_ratio, f"{choice.estimator}+log_ratio", choice.pointwise)


async def distance(models: Models, prompt: Prompt, completion: Candidate, sampling: Sampling) -> Distance | None:
    """The distance of `completion`, drawn by `sampling`; None at temperature 0, where it has none."""
    if sampling.is_greedy:
        return None
    t, length = sampling.temperature, len(prompt.tokens) + len(completion.tokens)
    policy = models.policy.logprob(prompt, completion, Law(1 / t))
    if completion.logprobs is not None and t == 1.0 and sampling.grammar is None:  # the engine has said log p already
        own = await policy
        return Distance(sum(token.logprob for token in completion.logprobs) - own, own, length)
    guided = Law(1 / t, {name: weight / t for name, weight in sampling.guides.items()})
    own, tilted = await together((policy, models.policy.logprob(prompt, completion, guided)))
    return Distance(tilted - own, own, 2 * length)


async def distances(
    models: Models, prompt: Prompt, answers: Sequence[Candidate], sampling: Sampling, *, asked: bool
) -> tuple[list[Distance | None], Cost]:
    """Of each answer, and what it took; None throughout where it is not asked for, or the policy is not guided."""
    if not (asked and sampling.guides):
        return [None] * len(answers), Cost()
    started = time.perf_counter()
    far = await together(distance(models, prompt, answer, sampling) for answer in answers)
    passes = sum(d.scored_tokens for d in far if d)
    return far, Cost(scored_tokens=passes, seconds={"score": time.perf_counter() - started})


def with_logprobs(sampling: Sampling) -> Sampling:
    """The same, with each drawn token's log-probability, by which KL is better known."""
    return sampling if sampling.logprobs is not None else replace(sampling, logprobs=0)
