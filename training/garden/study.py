"""What each way of decoding gains in this world, and what it costs in KL from the policy.

The study asks all 128 questions, twice each. A row has mean learnt rewards, mean gold scores (points per answer) and
the KL in nats: zero for plain samples, the bound log N - (N - 1)/N for best-of-N, the same per block for blockwise
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

from decoders import BestOfN, Controlled
from decoders.events import Result
from training.garden import store
from training.garden.grammar import all_questions, gold
from training.garden.rewards import score
from training.garden.sampling import sample_answers
from training.garden.search import search
from training.garden.tokenizer import decode_response, encode_prompt
from training.garden.value import score_prefixes

NS = (1, 2, 4, 8, 16, 32)
BLOCK_CANDIDATES = (4, 8)
BLOCK_TOKENS = 8
WEIGHTS = (0.5, 1.0, 2.0)
FRONT = (0.0, 0.25, 0.5, 0.75, 1.0)

Answers = list[list[int]]
"""Token ids of one answer to each prompt."""
Decode = Callable[[int], tuple[Answers, float]]
"""Takes a seed; gives the answers and their mean KL in nats."""


@dataclass(frozen=True)
class StudyRow:
    """One line of the table: means over all answers; `error` is the standard error of `reward_helpful`."""

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

    def measure(self, name: str, answers: Answers, kl: float) -> StudyRow:
        """Return the row of one way of decoding, from its answers and its KL in nats."""
        sequences = [prompt + answer for prompt, answer in zip(self.prompts, answers, strict=True)]
        helpful = score(self.models["reward_helpful"], sequences).tolist()
        worth = [gold(decode_response(self.tokenizer, answer)) for answer in answers]
        return StudyRow(
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
        """Return samples with ARMs as guides, by name and weight, and their mean KL."""
        guides = [(self.models[name], weight) for name, weight in weights.items()]
        drawn = sample_answers(self.policy, self.prompts, seed=seed, guides=guides)
        return [one.tokens for one in drawn], fmean(one.kl for one in drawn)

    def blockwise(self, candidates: int, seed: int) -> tuple[Answers, float]:
        """Return blockwise controlled decoding by the prefix scorer, and its KL bound."""
        decoder = Controlled(candidates=candidates, block_tokens=BLOCK_TOKENS)
        return _of(
            search(decoder, self.policy, partial(score_prefixes, self.models["value_helpful"]), self.prompts, seed)
        )

    def best_of_n(self, n: int, seed: int) -> tuple[Answers, float]:
        """Return best-of-N by the helpful reward, and its KL bound."""
        score_helpful = partial(score, self.models["reward_helpful"])
        return _of(search(BestOfN(n=n), self.policy, score_helpful, self.prompts, seed))

    def ways(self) -> Iterator[tuple[str, Decode]]:
        """Yield every way of decoding with its name in the table."""
        yield "plain samples", partial(self.guided, {})
        for n in NS:
            yield f"best of {n}", partial(self.best_of_n, n)
        for k in BLOCK_CANDIDATES:
            yield f"blockwise K = {k}", partial(self.blockwise, k)
        for w in WEIGHTS:
            yield f"guided, helpful {w:g}", partial(self.guided, {"arm_helpful": w})
        for a in FRONT:
            weights = {"arm_helpful": a, "arm_harmless": 1 - a}
            yield f"guided, helpful {a:g} harmless {1 - a:g}", partial(self.guided, weights)
        for w in WEIGHTS:  # the control: the policy as its own guide, which only sharpens it
            yield f"no guide, temperature {1 / (1 + w):.2f}", partial(self.guided, {"policy": w})


def _of(results: Sequence[Result]) -> tuple[Answers, float]:
    """Return a search's answers, and the mean of the KL that it reports."""
    bounds = [result.kl.nats for result in results if result.kl is not None]
    assert len(bounds) == len(results)
    return [list(result.candidate.tokens) for result in results], fmean(bounds)


def run_study(root: Path, seed: int) -> list[StudyRow]:
    """Measure the checkpoints in `root` and print the table."""
    study = Study(root, all_questions() * 2)
    rows: list[StudyRow] = []
    for offset, (name, decode) in enumerate(tqdm(list(study.ways()), desc="decoding", unit="way")):
        rows.append(study.measure(name, *decode(seed + 10_000 * (offset + 1))))
    print(HEADER, *rows, sep="\n")
    return rows
