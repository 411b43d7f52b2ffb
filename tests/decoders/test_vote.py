"""Best-of-N by vote: what counts as an answer, which answer wins, and the law on the toy."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import pytest
from pydantic import ValidationError

from decoders import BestOfN
from decoders.best_of_n import BestOfNInfo
from decoders.core import Sampling, Tokens
from decoders.errors import InvalidRequest, NoUsableReward
from decoders.models import Models
from decoders.parts.vote import Vote, VoteShare
from decoders.testing import WORDS, ToyPolicy, ToyReward, bind, done, every_path, law
from tests.support import laws
from tests.support.fakes import giving
from tests.support.replies import said

POLICY = ToyPolicy(vocabulary=3, longest=3)
MODELS = Models(POLICY, {"default": ToyReward()})
PI = POLICY.completions()
WORTH = {y: ToyReward().of(y) for y in PI}
TEXT = {y: "".join(WORDS[t] for t in y) for y in PI}
LAST = Vote(answer=r"(good|bad)")  # the last word of a completion
EXACT = 1e-12


def last_word(y: Tokens) -> str | None:
    words = [WORDS[t].strip() for t in y if t]
    return words[-1] if words else None


Objective = Callable[[tuple[Tokens, ...]], Sequence[float]]


def counted(beta: float | None) -> Objective:
    """Return the choice by definition: the most votes, then the greatest reward, all ties alike."""

    def judge(ys: tuple[Tokens, ...]) -> list[float]:
        votes: defaultdict[str | None, float] = defaultdict(float)
        for y in ys:
            if last_word(y) is not None:
                votes[last_word(y)] += 1.0 if beta is None else math.exp(WORTH[y] / beta)
        if not votes:
            votes[None] = 1.0
        winners = [a for a, v in votes.items() if math.isclose(v, max(votes.values()), rel_tol=1e-9)]
        weights = []
        for y in ys:
            own = [WORTH[z] for z in ys if last_word(z) == last_word(y)]
            best = last_word(y) in winners and WORTH[y] == max(own)
            weights.append(1 / own.count(max(own)) if best else 0.0)
        return weights

    return judge


@pytest.mark.parametrize("beta", [None, 0.5, 3.0])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_its_law_by_brute_force(n: int, beta: float | None) -> None:
    decoder = BestOfN(n=n, select=LAST.model_copy(update={"beta": beta}))
    have = asyncio.run(law(bind(decoder, MODELS)))
    assert have == pytest.approx(laws.chosen(PI, n, counted(beta)), abs=EXACT)


def test_the_winning_answer_and_its_share_are_reported() -> None:
    for _, end in asyncio.run(every_path(bind(BestOfN(n=3, select=LAST), MODELS))):
        [result] = done(end).results
        answers = [last_word(s.candidate.tokens) for s in done(end).candidates]
        voting = [a for a in answers if a is not None]
        winner = last_word(result.candidate.tokens)
        share = 0.0 if winner is None else voting.count(winner) / len(voting)
        assert result.diagnostics(BestOfNInfo).vote == VoteShare(answer=winner, share=share)


def test_a_plain_majority_needs_no_reward() -> None:
    have = asyncio.run(law(bind(BestOfN(n=3, select=LAST), Models(POLICY))))

    def judge(ys: tuple[Tokens, ...]) -> list[float]:
        answers = [last_word(y) for y in ys]
        most = max((answers.count(a) for a in answers if a is not None), default=0)
        wins = [a is None if most == 0 else a is not None and answers.count(a) == most for a in answers]
        return [1 / answers.count(a) if won else 0.0 for a, won in zip(answers, wins, strict=True)]

    assert have == pytest.approx(laws.chosen(PI, 3, judge), abs=EXACT)


def test_a_weighted_majority_does() -> None:
    with pytest.raises(InvalidRequest, match="Name a reward"):
        BestOfN(n=3, select=Vote(answer="x", beta=1.0)).check(Models(POLICY), Sampling())


def test_without_a_finite_reward_there_is_no_vote() -> None:
    ends = asyncio.run(every_path(bind(BestOfN(n=2, select=LAST), Models(POLICY, {"default": giving(math.nan)}))))
    assert all(isinstance(end, NoUsableReward) for _, end in ends)


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"####\s*(-?[\d.,]+)", "so 3\n#### 1,234 and #### 17", "17"),
        (r"\d+", "first 1 then 22", "22"),
        (r"(?:is|=) *([A-D])\b", "the answer is B", "B"),
        (r"answer: (.*)", "answer:  spaced out  ", "spaced out"),
        (r"\d+", "none", None),
        (r"(a)|b", "b", None),
        (r"é(.)", "caféx", "x"),
        (r"x*", "yyy", ""),
    ],
)
def test_an_answer_is_the_last_match(pattern: str, text: str, answer: str | None) -> None:
    assert Vote(answer=pattern).answers(said(text)) == [answer]


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)", "", "x" * 513, "(a{1000}){1000}"])
def test_an_expression_that_does_not_run_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Vote(answer=pattern)


def test_no_text_makes_an_expression_slow() -> None:
    """A backtracking engine would take longer than the age of the universe on this text."""
    assert Vote(answer=r"(?:a+)+$").answers(said("a" * 50_000 + "b")) == [None]


@pytest.mark.parametrize("stop_at", [0.0])
def test_it_does_not_stop_at_a_reward(stop_at: float) -> None:
    with pytest.raises(InvalidRequest) as raised:
        BestOfN(n=3, select=LAST, stop_at=stop_at).check(MODELS, Sampling())
    assert raised.value.field == "strategy.stop_at"
