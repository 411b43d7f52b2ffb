"""Strategies run on completions that were drawn and scored once: real models' laws, without an engine in each run.

A rollout pool holds completions of one prompt drawn from the policy, each with its reward and its prefixes' rewards. A
replayed policy hands them out one after the other and none twice, so a strategy's draws are as independent as an
engine's.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from decoders.core import Candidate, Prompt, Rng, Sampling, Tokens
from decoders.policy import EntropyStop, TokenLaw


class Exhausted(Exception):
    """The pool has no completion left."""


@dataclass(frozen=True)
class RolloutPool:
    """Completions of one prompt, and rewards by the token ids of each completion and of its scored prefixes."""

    prompt: Prompt
    draws: Sequence[Tokens]
    rewards: dict[Tokens, float]

    def split(self, *counts: int) -> list["RolloutPool"]:
        """Return pools of these numbers of consecutive completions, and one more with the rest."""
        parts, at = [], 0
        for count in (*counts, len(self.draws)):
            parts.append(RolloutPool(self.prompt, self.draws[at : at + count], self.rewards))
            at += count
        return parts

    def scores(self) -> list[float]:
        """Return the reward of each completion."""
        return [self.rewards[tokens] for tokens in self.draws]


@dataclass
class Replay:
    """A `Policy` and a `Reward` that answer from a pool."""

    pool: RolloutPool
    name: str = "replay"
    guides: Mapping[str, str] = field(default_factory=dict)
    used: int = 0
    """Completions of the pool that were handed out."""
    unfinished: dict[Tokens, list[Tokens]] = field(default_factory=dict)
    """Whole completions by the prefix of theirs that was handed out last."""

    async def sample(
        self,
        prompt: Prompt,  # noqa: ARG002
        n: int,
        sampling: Sampling,  # noqa: ARG002
        rng: Rng,  # noqa: ARG002
        *,
        pieces: bool = False,  # noqa: ARG002
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        for i in range(n):
            yield i, Candidate(self._next(), "", "length")

    async def extend(
        self,
        prompt: Prompt,  # noqa: ARG002
        prefix: Candidate,
        n: int,
        tokens: int,
        sampling: Sampling,  # noqa: ARG002
        rng: Rng,  # noqa: ARG002
        *,
        stop_block: Sequence[str] = (),  # noqa: ARG002
        entropy_stop: EntropyStop | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        """Continue `prefix` as its own completion in the pool does: each handed-out prefix has one continuation."""
        for i in range(n):
            whole = self._next() if not prefix.tokens else self.unfinished[prefix.tokens].pop()
            part = whole[: len(prefix.tokens) + tokens]
            if len(part) < len(whole):
                self.unfinished.setdefault(part, []).append(whole)
            finish = "length" if len(part) == len(whole) else None
            yield i, Candidate(part, "", finish), len(part) - len(prefix.tokens)  # type: ignore[arg-type]

    def check_entropy_stop(self, sampling: Sampling) -> None:
        raise NotImplementedError("a pool holds no entropies")

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        raise NotImplementedError("a pool holds no log-probabilities")

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [self.pool.rewards[c.tokens] for c in completions]

    def _next(self) -> Tokens:
        if self.used == len(self.pool.draws):
            raise Exhausted
        self.used += 1
        return self.pool.draws[self.used - 1]


@dataclass
class FixedCalibration:
    """A calibration store that holds the rollouts' rewards of one prompt."""

    scores: Sequence[float]

    @property
    def rollouts(self) -> int:
        return len(self.scores)

    async def stored(self, prompt: Prompt, sampling: Sampling, reward: str) -> Sequence[float | None]:  # noqa: ARG002
        return self.scores

    async def keep(self, prompt: Prompt, sampling: Sampling, reward: str, rewards: Sequence[float | None]) -> None:
        raise NotImplementedError("every rollout is stored, so that none is drawn")


def append_pool(pool: RolloutPool, file: Path) -> None:
    """Append the pool to `file` as a line of JSON."""
    rewards = [[list(tokens), reward] for tokens, reward in pool.rewards.items()]
    prompt = [list(pool.prompt.tokens), pool.prompt.text]
    with file.open("a") as out:
        out.write(json.dumps({"prompt": prompt, "draws": [list(d) for d in pool.draws], "rewards": rewards}) + "\n")


def load_pools(file: Path) -> list[RolloutPool]:
    """Read the pools that `append_pool` wrote."""
    pools = []
    for line in file.read_text().splitlines():
        data = json.loads(line)
        tokens, text = data["prompt"]
        rewards = {tuple(t): r for t, r in data["rewards"]}
        pools.append(RolloutPool(Prompt(tuple(tokens), text), [tuple(d) for d in data["draws"]], rewards))
    return pools
