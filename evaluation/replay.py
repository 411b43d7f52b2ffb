"""Strategies run on completions that were drawn and scored once: the law of the real models, at no cost a run.

A pool holds draws of a prompt from the policy, each with its reward and the rewards of its beginnings. A replayed
policy hands them out one after the other, none twice, so that what a strategy sees are draws as fresh as an engine's.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from decoders.core import Candidate, EntropyStop, Prompt, Rng, Sampling, TokenLaw, Tokens

Rewards = dict[Tokens, float]


class Exhausted(Exception):
    """A pool has no draws left."""


@dataclass(frozen=True)
class Pool:
    """Draws from one prompt, and the reward of each and of its beginnings."""

    prompt: Prompt
    draws: Sequence[Tokens]
    rewards: Rewards

    def split(self, *counts: int) -> list["Pool"]:
        """Consecutive parts of these sizes, and what is left."""
        parts, at = [], 0
        for count in (*counts, len(self.draws)):
            parts.append(Pool(self.prompt, self.draws[at : at + count], self.rewards))
            at += count
        return parts

    def scores(self) -> list[float]:
        return [self.rewards[tokens] for tokens in self.draws]


@dataclass
class Replay:
    """A `Policy` and a `Reward` that give what a pool holds."""

    pool: Pool
    name: str = "replay"
    guides: Mapping[str, str] = field(default_factory=dict)
    used: int = 0
    prefix: dict[Tokens, list[Tokens]] = field(default_factory=dict)

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
        """A beginning goes on as its own draw did; so only the empty one has more than one continuation."""
        for i in range(n):
            whole = self._next() if not prefix.tokens else self.prefix[prefix.tokens].pop()
            part = whole[: len(prefix.tokens) + tokens]
            if len(part) < len(whole):
                self.prefix.setdefault(part, []).append(whole)
            finish = "length" if len(part) == len(whole) else None
            yield i, Candidate(part, "", finish), len(part) - len(prefix.tokens)  # type: ignore[arg-type]

    def check_entropy_stop(self, sampling: Sampling) -> None:
        raise NotImplementedError

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        raise NotImplementedError

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [self.pool.rewards[c.tokens] for c in completions]

    def _next(self) -> Tokens:
        if self.used == len(self.pool.draws):
            raise Exhausted
        self.used += 1
        return self.pool.draws[self.used - 1]


@dataclass
class Kept:
    """A calibration store that holds one prompt's rollouts."""

    scores: Sequence[float]

    @property
    def rollouts(self) -> int:
        return len(self.scores)

    async def stored(self, prompt: Prompt, sampling: Sampling, reward: str) -> Sequence[float | None]:  # noqa: ARG002
        return self.scores

    async def keep(self, prompt: Prompt, sampling: Sampling, reward: str, rewards: Sequence[float | None]) -> None:
        raise NotImplementedError


def save(pool: Pool, file: Path) -> None:
    """One more line of the file."""
    rewards = [[list(tokens), reward] for tokens, reward in pool.rewards.items()]
    prompt = [list(pool.prompt.tokens), pool.prompt.text]
    with file.open("a") as out:
        out.write(json.dumps({"prompt": prompt, "draws": [list(d) for d in pool.draws], "rewards": rewards}) + "\n")


def load(file: Path) -> list[Pool]:
    pools = []
    for line in file.read_text().splitlines():
        data = json.loads(line)
        tokens, text = data["prompt"]
        rewards = {tuple(t): r for t, r in data["rewards"]}
        pools.append(Pool(Prompt(tuple(tokens), text), [tuple(d) for d in data["draws"]], rewards))
    return pools
