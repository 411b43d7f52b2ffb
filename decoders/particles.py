"""Sequential Monte Carlo towards the KL-regularised optimum [Korbel et al. 2022; Lew et al. 2023].

y^1 .. y^P empty, w^p = 1;   repeat until all have ended:
    extend each y^p by a block ~ pi(. | x, y^p);   w^p <- w^p psi(y^p after) / psi(y^p before),  psi = exp(V/beta)
    if ESS(w) < threshold P:   resample y^1 .. y^P by w, systematically;   w^p <- mean(w)
return y^p with p ~ w
"""

import itertools
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field

from decoders.core import EMPTY, Candidate, Prompt, Rng, Sampling
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.events import KL, Cost, Done, Result, Run, Scored, Step
from decoders.maths.logmath import INF, logsumexp, normalise, scaled
from decoders.models import Models
from decoders.parts.blocks import Blocks, block_bound, check_blocks
from decoders.parts.divergence import distances, divergence, with_logprobs
from decoders.parts.selection import Beta
from decoders.search import Search


@dataclass
class _Population:
    """One result on its way: particles, and what weighs them.

    In between two resamplings the weights telescope to exp((V now - V then) / beta), so it is the V that are kept, in
    the reward's units: -inf for weight zero. Only their differences are divided by beta, which no beta makes overflow.
    """

    particles: list[Candidate]
    rewards: list[Scored | None] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """V of each as it stands; 0 of an empty answer."""
    bases: list[float] = field(default_factory=list)
    """V of each at the last resampling."""
    level: float = 0.0
    log_z: float = 0.0
    """At the last resampling, the estimate of log Z is level / beta + log_z."""
    rounds: int = 0

    @property
    def open(self) -> list[int]:
        return [p for p, particle in enumerate(self.particles) if particle.finish is None]


class Particles(Search, frozen=True, extra="forbid"):
    """A draw from the tilted policy that P weighted particles stand for.

    Law: tends to pi(y|x) exp(r(x,y)/beta) / Z(x) as P grows; for a finite P it lies between pi (P = 1) and that. The
    estimate of Z is unbiased for every P. V, the reward on an unfinished particle, only decides which ones are
    resampled on the way: the weights telescope to exp(r/beta), so a bad V costs particles, not the limit. Resampling is
    systematic, where the effective sample size (sum w)^2 / sum w^2 falls below `ess_threshold` P. With `calibrated`, r
    is Phi(C) for the C that the rollouts estimate, V its value for the unfinished answer's reward.

    KL is that of the limit, r/beta - log Z with Z estimated, not that of the law of finite P.

    A finished particle without a finite reward has weight zero; an unfinished one keeps the weight it has. Several
    results are independent populations.
    """

    strategy: Literal["particles"] = "particles"
    particles: int = Field(16, ge=1, le=256, description="P.")
    block_tokens: int = Field(16, ge=1, description="Tokens between weighings, at most.")
    beta: Beta = 1.0
    ess_threshold: float = Field(0.5, ge=0, le=1, description="Resample below this share of P; 0 never does.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(sampling.n * self.particles, await self.references_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        width = sampling.n * self.particles
        steps, drawn = block_bound(sampling.max_tokens, self.block_tokens, self.block_tokens)
        return Cost(width * steps, width * drawn) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        if sampling.is_greedy and self.particles > 1:
            raise InvalidRequest("At temperature 0 all particles would be the same: raise it.", "temperature")

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        sampling = self.guided(models, sampling)
        draws = replace(with_logprobs(sampling) if self.return_kl and sampling.guides else sampling, n=1)
        objective = await self.objective(prompt, models, draws, rng.fork())
        blocks = Blocks(prompt, models, objective, draws, rng)
        populations = [self._start() for _ in range(sampling.n)]
        weighing = 0.0
        while any(population.open for population in populations):
            wanted = [self._groups(population) for population in populations]
            flat = [
                (population.particles[group[0]], len(group))
                for population, groups in zip(populations, wanted, strict=True)
                for group in groups
            ]
            grown = iter(await blocks.grow([c for c, _ in flat], [n for _, n in flat], self.block_tokens))
            started = time.perf_counter()
            for population, groups in zip(populations, wanted, strict=True):
                if not groups:
                    continue
                for group in groups:
                    for p, scored in zip(group, next(grown), strict=True):
                        self._weigh(population, p, scored)
                self._resample(population, rng)
            weighing += time.perf_counter() - started
        chosen = [rng.draw(self._alive(population)) for population in populations]
        answers = [population.particles[p] for population, p in zip(populations, chosen, strict=True)]
        for index, answer in enumerate(answers):
            yield Step(answer, index)
        far, measuring = await distances(models, prompt, answers, sampling, asked=self.return_kl)
        results = []
        for population, p, d in zip(populations, chosen, far, strict=True):
            final = population.rewards[p]
            assert final is not None
            self._note(population)
            log_z = population.level / self.beta + population.log_z
            nats = (population.values[p] - population.level) / self.beta - population.log_z
            tilt = KL(nats, "tilt_log_ratio", pointwise=True)
            results.append(
                Result(
                    final.candidate,
                    rewards=final.rewards,
                    calibrated=final.calibrated,
                    kl=divergence(tilt, d, sampling) if math.isfinite(nats) else None,
                    policy_logprob=None if d is None else d.policy_logprob,
                    rounds=population.rounds,
                    log_z=log_z if math.isfinite(log_z) else None,
                )
            )
        everyone = [scored for population in populations for scored in population.rewards if scored is not None]
        yield Done(
            tuple(results),
            cost=objective.cost + blocks.cost + Cost(seconds={"select": weighing}) + measuring,
            candidates=tuple(everyone),
            chosen=tuple(i * self.particles + p for i, p in enumerate(chosen)),
            rollouts=objective.rollouts,
        )

    def _start(self) -> _Population:
        count = self.particles
        return _Population([EMPTY] * count, [None] * count, [0.0] * count, [0.0] * count)

    def _groups(self, population: _Population) -> list[list[int]]:
        """Open particles, those that are the same together: they are one engine request, and share their prefix."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for p in population.open:
            groups.setdefault(population.particles[p].tokens, []).append(p)
        return list(groups.values())

    def _weigh(self, population: _Population, p: int, scored: Scored) -> None:
        if math.isfinite(scored.total):
            value = scored.total
        else:
            value = -INF if scored.candidate.finish else population.values[p]
        population.particles[p], population.rewards[p], population.values[p] = scored.candidate, scored, value

    def _resample(self, population: _Population, rng: Rng) -> None:
        population.rounds += 1
        log_weights = self._alive(population)
        if not population.open or effective(log_weights) >= self.ess_threshold * self.particles:
            return
        parents = systematic(normalise(log_weights), rng)
        self._note(population)
        population.particles = [population.particles[p] for p in parents]
        population.rewards = [population.rewards[p] for p in parents]
        population.values = [population.values[p] for p in parents]
        population.bases = list(population.values)

    def _note(self, population: _Population) -> None:
        """Take the mean weight since the last resampling into the estimate of Z."""
        population.level = _difference(population.level, -max(self._rises(population)))
        population.log_z += logsumexp(self._alive(population)) - math.log(self.particles)

    def _rises(self, population: _Population) -> list[float]:
        """How far V has risen since the last resampling."""
        return [_difference(now, then) for now, then in zip(population.values, population.bases, strict=True)]

    def _alive(self, population: _Population) -> list[float]:
        """The log-weights, the greatest being 0. Raises `NoUsableReward` if all are of weight zero."""
        rises = self._rises(population)
        if max(rises) == -INF:
            raise NoUsableReward(f"None of {self.particles} particles has a finite reward.")
        return scaled(rises, self.beta)


def _difference(a: float, b: float) -> float:
    """a - b, of finite b, where it overflows the greatest double there is; -inf stays."""
    return a if a == -INF else min(max(a - b, -sys.float_info.max), sys.float_info.max)


def effective(log_weights: Sequence[float]) -> float:
    """The effective sample size (sum w)^2 / sum w^2."""
    return math.exp(2 * logsumexp(log_weights) - logsumexp([2 * v for v in log_weights]))


def systematic(probabilities: Sequence[float], rng: Rng) -> list[int]:
    """len(probabilities) parents: those at which (u + k)/P falls in the cumulative sum, for one uniform u.

    As u runs from 0 to 1 the parents change only where it passes the fraction of some P * (cumulative sum), so drawing
    the interval between two such points draws u as far as it matters, and exactly.
    """
    count = len(probabilities)
    sums = [count * s for s in itertools.accumulate(probabilities)]
    cuts = sorted({0.0, 1.0, *(s % 1.0 for s in sums[:-1])})
    intervals = list(itertools.pairwise(cuts))
    last = max(p for p, share in enumerate(probabilities) if share > 0)  # rounding must not bring back weight zero
    low, high = intervals[rng.draw([math.log(b - a) for a, b in intervals])]
    u = (low + high) / 2
    parents, p = [], 0
    for k in range(count):
        while p < last and u + k >= sums[p]:
            p += 1
        parents.append(p)
    return parents
