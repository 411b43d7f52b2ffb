"""Answers read token by token: characters split between tokens, stop strings between stretches, ends of all kinds."""

from collections.abc import Sequence

import pytest

from decoders.core import Candidate, Sampling, Tokens, join
from evaluation.support.tiny_models import make_tokenizer
from server.engines.text.answer_reader import AnswerReader
from server.engines.text.model_text import ModelText

pytestmark = pytest.mark.engine  # vLLM's detokenizer


@pytest.fixture(scope="module")
def text() -> ModelText:
    """Of a tokenizer with a token for each byte, and few others."""
    words = make_tokenizer(384, None)
    return ModelText(words, 1024, len(words))


def ids(text: ModelText, of: str | bytes) -> Tokens:
    """A token a byte, by the characters that byte-level vocabularies write bytes with."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    characters = {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}
    data = of.encode() if isinstance(of, str) else of
    return tuple(text.tokenizer.convert_tokens_to_ids([characters[b] for b in data]))


def grow(
    text: ModelText,
    blocks: Sequence[str | bytes],
    sampling: Sampling | None = None,
    *,
    prompt: str | bytes = "go",
    block_stop: Sequence[str] = (),
    at_once: bool = True,
    end: tuple[str, int] | None = None,
) -> Candidate:
    """The answer that stretches make up, each read by a reader of its own, as the policy does."""
    sampling = sampling or Sampling(max_tokens=100)
    pieces: list[Candidate] = [Candidate((), "")]
    for number, block in enumerate(blocks):
        before = tuple(t for p in pieces for t in p.tokens)
        reader = AnswerReader(text, ids(text, prompt), sampling, block_stop).read_prefix(before).copy()
        tokens = ids(text, block)
        parts = [tokens] if at_once else [(t,) for t in tokens]
        for i, part in enumerate(parts, 1):
            last = i == len(parts)
            ends = end is not None and last and number == len(blocks) - 1
            drawn = Candidate(
                part, "", "stop" if ends else "length" if last else None, end[1] if end and ends else None
            )
            piece, closed = reader.read_piece(drawn)
            pieces.append(piece)
            if closed:
                break
        pieces[-1] = Candidate(pieces[-1].tokens, "", pieces[-1].finish, pieces[-1].stop, trimmed=pieces[-1].trimmed)
        said = reader.text
        if pieces[-1].finish is not None:
            break
    whole = join(pieces)
    return Candidate(whole.tokens, said, whole.finish, whole.stop, trimmed=whole.trimmed)


def test_a_character_split_between_stretches_is_whole_again(text: ModelText) -> None:
    data = "né".encode()
    first = grow(text, [data[:2]])
    assert (first.text, first.finish) == ("n", None)
    assert grow(text, [data[:2], data[2:]]).text == "né"


def test_a_stretch_that_fills_the_answer_ends_it(text: ModelText) -> None:
    sampling = Sampling(max_tokens=4)
    assert grow(text, ["abc"], sampling).finish is None
    assert grow(text, ["abc", "d"], sampling).finish == "length"


@pytest.mark.parametrize(("include", "said"), [(False, "abc"), (True, "abcd")])
def test_a_token_that_stops_ends_it(text: ModelText, include: bool, said: str) -> None:
    made = grow(text, ["abc", "d"], Sampling(max_tokens=9, include_stop_str_in_output=include), end=("d", 100))
    assert (made.finish, made.stop, made.text, len(made.tokens)) == ("stop", 100, said, 4)


def test_bytes_that_never_become_a_character_are_no_text(text: ModelText) -> None:
    assert grow(text, ["né".encode()[:2]], Sampling(max_tokens=2)).text == "n"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("blocks", [["go END"], ["go E", "ND"], ["go E", "N", "D and on"], ["go EN", "D and on"]])
def test_a_stop_string_ends_it_wherever_it_began(
    text: ModelText, blocks: list[str | bytes], include: bool, at_once: bool
) -> None:
    sampling = Sampling(max_tokens=100, stop=("END", "never"), include_stop_str_in_output=include)
    made = grow(text, blocks, sampling, at_once=at_once)
    assert (made.finish, made.stop) == ("stop", "END")
    assert made.text == ("go END" if include else "go ")
    assert made.trimmed
    assert made.tokens == ids(text, "go END")  # what came after it in its stretch is no part of the answer


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("blocks", [["abcd"], ["a", "bcd"], ["ab", "cd"], ["abc", "d"]])
def test_the_stop_string_that_completes_first_counts(text: ModelText, blocks: list[str | bytes], at_once: bool) -> None:
    """As in one piece, however the answer is cut; here the one that completes last begins first."""
    made = grow(text, blocks, Sampling(max_tokens=100, stop=("abcd", "bc")), at_once=at_once)
    assert (made.text, made.stop, made.tokens) == ("a", "bc", ids(text, "abc"))


@pytest.mark.parametrize("blocks", [["xaxbx"], ["xax", "bx"], ["x", "a", "xb", "x"]])
def test_a_stop_string_is_not_looked_for_before_min_tokens(text: ModelText, blocks: list[str | bytes]) -> None:
    made = grow(text, blocks, Sampling(max_tokens=100, min_tokens=3, stop=("x",)), at_once=False)
    assert (made.text, made.finish, len(made.tokens)) == ("xaxb", "stop", 5)


def test_what_ends_a_stretch_is_kept_and_does_not_end_the_answer(text: ModelText) -> None:
    made = grow(text, ["one\n\nmore"], block_stop=["\n\n"])
    assert (made.finish, made.text, made.tokens) == (None, "one\n\n", ids(text, "one\n\n"))
    straddling = grow(text, ["one\n", "\nmore"], block_stop=["\n\n"])
    assert straddling.text == "one\n\n"
    again = grow(text, ["one\n\n", "two\n\nmore"], block_stop=["\n\n"])
    assert again.text == "one\n\ntwo\n\n"
    full = grow(text, ["one\n\n"], Sampling(max_tokens=5), block_stop=["\n\n"])
    assert full.finish == "length"


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_prompt_that_ends_inside_a_character_leaks_none_of_its_text(text: ModelText, cut: int) -> None:
    data = "stop\n here 🙂".encode()
    prompt, rest = data[:-cut], data[-cut:]
    made = grow(text, [rest, b" so"], Sampling(max_tokens=100, stop=("\n",)), prompt=prompt)
    assert (made.text, made.finish) == ("🙂 so", None)
    assert grow(text, [b"x"], prompt=prompt).text == "x"


def test_a_stretch_that_begins_inside_a_character_stops_at_no_stop_string_of_the_prompt(text: ModelText) -> None:
    data = "日本".encode()
    for at in range(1, len(data)):
        made = grow(text, [data[:at], data[at:]], Sampling(max_tokens=100, stop=("\n",)), prompt="user\n日")
        assert (made.text, made.finish) == ("日本", None)
