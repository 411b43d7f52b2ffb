"""What each way of decoding buys in this world, and what it costs in KL from the policy.

All 128 questions, twice each; mean learnt rewards, mean gold scores (points per answer), and the KL in
nats: zero for plain samples, the bound log N - (N - 1)/N for best-of-N, the same per block for blockwise
decoding, and an unbiased estimate for guided decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from tqdm import tqdm

from training.garden import store
from training.garden.grammar import all_questions, gold
from training.garden.rewards import score
from training.garden.sampling import Guide, sample
from training.garden.search import best_of_n, blockwise, pool, pool_rewards
from training.garden.tokenizer import decode_response, encode_prompt

NS = (1, 2, 4, 8, 16, 32)
BLOCK_CANDIDATES = (4, 8)
WEIGHTS = (0.5, 1.0, 2.0)
FRONT = (0.0, 0.25, 0.5, 0.75, 1.0)

Answers = list[list[int]]
Decode = Callable[[int], tuple[Answers, float]]  # seed -> answers, KL in nats


@dataclass(frozen=True)
class Row:
    """One line of the table; means over all answers, `error` is the standard error of `reward_helpful`."""

    name: str
    reward_helpful: float
    error: float
    reward_harmless: float
    gold_helpful: float
    gold_harmless: float
    kl: float
    unparsed: float
    tokens: float

    def __str__(self) -> str:
        return (
            f"| {self.name} | {self.reward_helpful:.2f} ± {self.error:.2f} | {self.reward_harmless:.2f} "
            f"| {self.gold_helpful:.2f} | {self.gold_harmless:.2f} | {self.kl:.2f} "
            f"| {self.unparsed:.2f} | {self.tokens:.1f} |"
        )


HEADER = """\
| decoding | reward helpful | reward harmless | gold helpful | gold harmless | KL (nats) | unparsed | tokens |
|---|---|---|---|---|---|---|---|"""


class Study:
    """The six models, the prompts, and the ways of decoding to compare."""

    def __init__(self, root: Path, questions: Sequence[str]) -> None:
        self.tokenizer = store.load_tokenizer(root)
        self.models = {name: store.load(name, root) for name in store.CLASSES}
        self.prompts = [encode_prompt(self.tokenizer, question) for question in questions]
        self.policy = self.models["policy"]

    def measure(self, name: str, answers: Answers, kl: float) -> Row:
        """The means of one way of decoding; `answers` are one per prompt."""
        sequences = [prompt + answer for prompt, answer in zip(self.prompts, answers, strict=True)]
        helpful = score(self.models["reward_helpful"], sequences).tolist()
        worth = [gold(decode_response(self.tokenizer, answer)) for answer in answers]
        return Row(
            name=name,
            reward_helpful=fmean(helpful),
            error=stdev(helpful) / math.sqrt(len(helpful)),
            reward_harmless=score(self.models["reward_harmless"], sequences).mean().item(),
            gold_helpful=fmean(one.helpful for one in worth),
            gold_harmless=fmean(one.harmless for one in worth),
            kl=kl,
            unparsed=fmean(one.unparsed for one in worth),
            tokens=fmean(map(len, answers)),
        )

    def guided(self, weights: dict[str, float], seed: int) -> tuple[Answers, float]:
        """Samples under `weights` of the ARMs by name, and their mean KL."""
        guides = [Guide(self.models[name], weight) for name, weight in weights.items()]
        drawn = sample(self.policy, self.prompts, seed=seed, guides=guides)
        return [one.tokens for one in drawn], fmean(one.kl for one in drawn)

    def blockwise(self, candidates: int, seed: int) -> tuple[Answers, float]:
        """Blockwise decoding by the prefix scorer, and its KL bound."""
        answers, blocks = blockwise(self.policy, self.models["value_helpful"], self.prompts, candidates, seed)
        return answers, blocks * best_of_n_bound(candidates)

    def ways(self) -> Iterator[tuple[str, Decode]]:
        """Every way of decoding but best-of-N, which shares one pool of candidates."""
        yield "plain samples", partial(self.guided, {})
        for k in BLOCK_CANDIDATES:
            yield f"blockwise K = {k}", partial(self.blockwise, k)
        for w in WEIGHTS:
            yield f"guided, helpful {w:g}", partial(self.guided, {"arm_helpful": w})
        for a in FRONT:
            weights = {"arm_helpful": a, "arm_harmless": 1 - a}
            yield f"guided, helpful {a:g} harmless {1 - a:g}", partial(self.guided, weights)
        for w in WEIGHTS:  # the control: what a guide that is the policy itself would do, sharpen it
            yield f"no guide, temperature {1 / (1 + w):.2f}", partial(self.guided, {"policy": w})

    def best_of_n(self, ns: Sequence[int], seed: int) -> Iterator[Row]:
        """Best-of-N for every N of `ns` from one pool; N = 1 is a plain sample."""
        pools = pool(self.policy, self.prompts, max(ns), seed)
        rewards = pool_rewards(self.models["reward_helpful"], self.prompts, pools)
        for n in ns:
            yield self.measure(f"best of {n}", best_of_n(pools, rewards, n), best_of_n_bound(n))


def best_of_n_bound(n: int) -> float:
    """log N - (N - 1)/N nats: at least the KL of best-of-N from the policy."""
    return math.log(n) - (n - 1) / n


def run_study(root: Path, seed: int) -> list[Row]:
    """Measure the checkpoints in `root` and print the table."""
    study = Study(root, all_questions() * 2)
    rows: list[Row] = []
    for offset, (name, decode) in enumerate(tqdm(list(study.ways()), desc="decoding", unit="way")):
        rows.append(study.measure(name, *decode(seed + 10_000 * (offset + 1))))
    rows[1:1] = study.best_of_n(NS, seed)
    print(HEADER, *rows, sep="\n")
    return rows
