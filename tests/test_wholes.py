"""Blocks put together: characters split between tokens, stop strings split between blocks, ends of all kinds."""

import pytest

from decoders.core import EMPTY, Candidate, Sampling, TokenLogprob, Tokens
from server.engines.wholes import whole


def text_of(tokens: Tokens) -> str:
    """A token is a byte."""
    return bytes(tokens).decode("utf-8", errors="replace")


def block(text: str | bytes, finish: str = "length", stop: str | int | None = None) -> Candidate:
    data = text.encode() if isinstance(text, str) else text
    logprobs = tuple(TokenLogprob(t, "", -float(i)) for i, t in enumerate(data))
    return Candidate(tuple(data), "", "stop" if finish == "stop" else "length", stop, logprobs)


def grow(*blocks: Candidate, sampling: Sampling | None = None) -> Candidate:
    made = EMPTY
    for part in blocks:
        made = whole(made, part, sampling or Sampling(max_tokens=100), text_of)
    return made


def test_a_character_split_between_blocks_is_whole_again() -> None:
    data = "né".encode()
    first = grow(block(data[:2]))
    assert (first.text, first.finish) == ("n", None)
    assert grow(block(data[:2]), block(data[2:])).text == "né"


def test_a_block_that_fills_the_answer_ends_it() -> None:
    sampling = Sampling(max_tokens=4)
    assert grow(block("abc"), sampling=sampling).finish is None
    assert grow(block("abc"), block("d"), sampling=sampling).finish == "length"


def test_a_token_that_stops_ends_it() -> None:
    for include, text in ((False, "abc"), (True, "abcd")):
        made = grow(block("abc"), block("d", "stop", 100), sampling=Sampling(max_tokens=9, include_stop=include))
        assert (made.finish, made.stop, made.text, len(made.tokens)) == ("stop", 100, text, 4)


def test_bytes_that_never_become_a_character_are_no_text() -> None:
    data = "né".encode()
    assert grow(block(data[:2]), sampling=Sampling(max_tokens=2)).text == "n"


def test_the_token_that_ends_a_character_has_its_text() -> None:
    """The engine, which sees only the block, has none for it."""
    data = "né".encode()
    made = grow(block(data[:2]), block(data[2:] + b"x"))
    assert [token.text for token in made.logprobs or ()] == ["", "", "é", ""]


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    "blocks",
    [
        ["go END"],
        [
            "go E",
            "ND",
        ],
        ["go E", "N", "D and on"],
        ["go EN", "D and on"],
    ],
)
def test_a_stop_string_ends_it_wherever_it_began(blocks: list[str], include: bool) -> None:
    sampling = Sampling(max_tokens=100, stop=("END", "never"), include_stop=include)
    made = grow(*map(block, blocks), sampling=sampling)
    assert (made.finish, made.stop) == ("stop", "END")
    assert made.text == ("go END" if include else "go ")
    assert made.trimmed is not include
    assert bytes(made.tokens).decode() == "go END"  # what came after it in its block is no part of the answer
    assert made.logprobs is not None
    assert len(made.logprobs) == len(made.tokens)


def test_the_stop_string_that_begins_first_counts() -> None:
    made = grow(block("a"), block("bcd"), sampling=Sampling(max_tokens=100, stop=("cd", "bc")))
    assert (made.text, made.stop) == ("a", "bc")


def test_what_ends_a_block_does_not_end_the_answer() -> None:
    made = grow(block("one\n\n", "stop", "\n\n"))
    assert (made.finish, made.text) == (None, "one\n\n")
    full = grow(block("one\n\n", "stop", "\n\n"), sampling=Sampling(max_tokens=5))
    assert full.finish == "length"


def test_a_stop_string_seen_before_is_not_found_again() -> None:
    """Only one that ends in what is new: the answer went on because the first was, say, below min_tokens."""
    sampling = Sampling(max_tokens=100, stop=("x",))
    begun = Candidate(tuple(b"axb"), "axb")
    assert whole(begun, block("c"), sampling, text_of).finish is None
