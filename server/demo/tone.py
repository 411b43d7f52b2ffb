"""A second opinion on sentiment: the VADER lexicon, which shares neither weights nor data with the reward model.

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", 2014.
"""

from functools import lru_cache
from typing import Any


def vader(prompts: list[str], completions: list[str]) -> list[float]:
    """Return VADER's compound score of each completion, in [-1, 1]; the prompts do not count.

    Raises ImportError if the `vaderSentiment` package is missing.
    """
    del prompts
    return [float(_analyzer().polarity_scores(text)["compound"]) for text in completions]


@lru_cache(maxsize=1)
def _analyzer() -> Any:
    # It reads a lexicon of 400 kB, so it is made only for the first score.
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
