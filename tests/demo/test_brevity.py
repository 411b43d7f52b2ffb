"""Short sentences as a reward: what counts as one, and what gains nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.demo.brevity import LONGEST, SHORTEST, short_sentences


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("", -LONGEST),
        ("....", -LONGEST),
        ("1. 2. 3.", -LONGEST),
        ("No. No. No.", -SHORTEST),
        ("It was a good film", -5),
        ("It was a good film.", -5),
        ("It was a good film. Then the two of", -9),
        ("It was a good film ... and it was long", -9),
        ('"It was very good indeed!" she said. "Was it not?"', -5.5),
        ("It cost 3.5 million dollars and made nine.", -7),
        ("word " * 60, -LONGEST),
    ],
)
def test_words_per_sentence(text: str, score: float) -> None:
    assert short_sentences(["Is it. Short."], [text]) == [score]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 5))
def test_a_longer_sentence_never_scores_better_and_a_stop_never_worse(lengths: list[int], which: int) -> None:
    def text(lengths: list[int]) -> str:
        return " ".join("Word" + " word" * (length - 1) + "." for length in lengths)

    which %= len(lengths)
    longer = [length + (place == which) for place, length in enumerate(lengths)]
    half = lengths[which] // 2
    halved = [*lengths[:which], *(part for part in (half, lengths[which] - half) if part), *lengths[which + 1 :]]
    score, of_longer, of_halved = short_sentences([""] * 3, [text(lengths), text(longer), text(halved)])
    assert of_longer <= score
    if half >= SHORTEST:
        assert of_halved >= score


@given(st.text(alphabet="aB.!? \n\"'1é", max_size=60))
def test_every_text_has_a_score_in_range(text: str) -> None:
    (score,) = short_sentences([""], [text])
    assert -LONGEST <= score <= -SHORTEST
