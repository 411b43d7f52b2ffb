"""Sequential Monte Carlo towards the KL-regularised optimum [Korbel et al. 2022; Lew et al. 2023].

y^1 .. y^P empty, w^p = 1;   repeat until all have ended:
    1. extend each y^p by a block ~ pi(. | x, y^p)
    2. w^p <- w^p psi(y^p after) / psi(y^p before),   psi = exp(V/beta)
    3. if ESS(w) < threshold P:   resample y^1 .. y^P by w, systematically;   w^p <- mean(w)
4. return y^p with p ~ w
"""

import math
from typing import ClassVar, Literal

from pydantic import Field

from decoders.core import Prompt, Rng, Sampling
from decoders.events import KL, Cost, Info, Run, Step
from decoders.models import Models
from decoders.parts.blocks import block_bound, check_blocks
from decoders.parts.population import Population
from decoders.parts.results import Choice
from decoders.parts.selection import Beta
from decoders.search import Search, check_draws_differ


class ParticlesInfo(Info, frozen=True):
    rounds: int = Field(description="Blocks by which the population grew.")
    log_z: float | None = Field(description="The unbiased estimate of Z, as its logarithm; left out where not finite.")


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

    info: ClassVar[type[Info]] = ParticlesInfo

    strategy: Literal["particles"] = "particles"
    particles: int = Field(16, ge=1, le=256, description="P.")
    block_tokens: int = Field(16, ge=1, description="Tokens between weighings, at most.")
    beta: Beta = 1.0
    ess_threshold: float = Field(0.5, ge=0, le=1, description="Resample below this share of P; 0 never does.")

    async def max_sequences(self, prompt: Prompt, models: Models, sampling: Sampling) -> int:
        return max(sampling.n * self.particles, await self.rollouts_at_once(prompt, models, sampling))

    def max_cost(self, sampling: Sampling, models: Models) -> Cost:
        width = sampling.n * self.particles
        steps, drawn = block_bound(sampling.max_tokens, self.block_tokens, self.block_tokens)
        return Cost(width * steps, width * drawn) + self.max_rollout_cost(sampling, models)

    def check(self, models: Models, sampling: Sampling) -> None:
        super().check(models, sampling)
        check_blocks(sampling)
        check_draws_differ(sampling, self.particles, "particles")

    async def decode(self, prompt: Prompt, models: Models, sampling: Sampling, rng: Rng) -> Run:
        run = await self.begin(prompt, models, sampling, rng)
        populations = [Population(self.particles, self.beta) for _ in range(sampling.n)]
        while going := [population for population in populations if population.open]:
            # 1. Extend each y^p by a block; equal particles are one engine request.
            groups = [(population, group) for population in going for group in population.groups()]
            prefixes = [population.prefix(group) for population, group in groups]
            grown = await run.extend(prefixes, [len(group) for _, group in groups], self.block_tokens)
            with run.selecting():
                # 2. w^p <- w^p psi(after) / psi(before).
                for (population, group), blocks in zip(groups, grown, strict=True):
                    for p, scored in zip(group, blocks, strict=True):
                        population.weigh(p, scored)
                # 3. Resample where few particles carry the weight.
                for population in going:
                    population.resample(self.ess_threshold, rng)
        # 4. p ~ w.
        chosen = [rng.draw(population.log_weights()) for population in populations]
        for index, (population, p) in enumerate(zip(populations, chosen, strict=True)):
            yield Step(population.particles[p].candidate, index)
        candidates = [particle for population in populations for particle in population.particles]
        choices = [
            self._choice(population, i * self.particles, p)
            for i, (population, p) in enumerate(zip(populations, chosen, strict=True))
        ]
        yield await run.done(candidates, choices)

    def _choice(self, population: Population, offset: int, p: int) -> Choice:
        """Return the choice of particle `p` of a population whose particles stand from `offset` on."""
        population.settle()
        nats, log_z = population.log_tilt(p), population.log_z
        kl = KL(nats, "tilt_log_ratio", pointwise=True) if math.isfinite(nats) else None
        info = ParticlesInfo(rounds=population.rounds, log_z=log_z if math.isfinite(log_z) else None)
        return Choice(offset + p, kl, info)
