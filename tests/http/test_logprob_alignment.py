"""Log-probabilities are cut with their text, and streamed with it."""

import random
from collections.abc import Sequence

import pytest

from decoders.core import Alternative, Candidate, TokenLogprob
from server.http.logprob_alignment import HeldLogprobs, aligned

LINES = ["the film was fine", "日本語の文。END", "naïve façade — 😀👍🏽 END", "привет, мир", "مرحبا 🙂"]


def split(text: str, rng: random.Random) -> list[TokenLogprob]:
    """Tokens of one to five bytes: of a character's, the last has its text, with what else it completes."""
    data = text.encode()
    entries: list[TokenLogprob] = []
    open_, at = b"", 0
    while at < len(data):
        raw = data[at : at + rng.randint(1, 5)]
        at += len(raw)
        open_ += raw
        try:
            said = open_.decode()
            open_ = b""
        except UnicodeDecodeError:
            said = ""
        token = len(entries)
        entries.append(TokenLogprob(token, said, -1.0, raw, (Alternative(token, said, -1.0, raw),)))
        if rng.random() < 0.2:
            entries.append(TokenLogprob(token, "", -2.0))  # a special token, which says nothing
    return entries


def joined(entries: Sequence[TokenLogprob]) -> tuple[str, bytes]:
    return "".join(e.text for e in entries), b"".join(e.raw for e in entries)


@pytest.mark.parametrize("line", LINES)
def test_cut_entries_join_to_the_text_and_its_bytes(line: str) -> None:
    for seed in range(50):
        entries = split(line, random.Random(seed))
        assert aligned(entries, len(line)) == entries
        for length in range(len(line)):
            cut = aligned(entries, length)
            assert joined(cut) == (line[:length], line[:length].encode()), (seed, length)
            assert len(cut) == len(entries)
            assert all(any((a.text, a.raw) == (e.text, e.raw) for a in e.top) for e in cut if e.top)


@pytest.mark.parametrize("line", LINES)
def test_streamed_entries_are_those_of_the_whole_and_never_before_their_text(line: str) -> None:
    for seed in range(100):
        rng = random.Random(seed)
        entries = split(line, rng)
        length, sent = rng.randint(0, len(line)), 0
        held, taken = HeldLogprobs(), list[TokenLogprob]()
        left = list(entries)
        while left:
            count = rng.randint(1, 3)
            now, left = left[:count], left[count:]
            said = len(line) - sum(len(e.text) for e in left)
            end = length if not left else max(sent, min(length, said - rng.randint(0, 4)))
            piece = Candidate((), line[sent:end], None if left else "stop", logprobs=tuple(now))
            sent = end
            taken += held.take(piece)
            assert sum(len(e.text) for e in taken) <= sent
        assert taken == aligned(entries, length), seed


def test_pieces_of_text_without_entries_are_let_through() -> None:
    held = HeldLogprobs()
    assert held.take(Candidate((1,), "some")) == []
    assert held.take(Candidate((2,), " text", "stop")) == []


def test_bytes_that_are_no_text_are_cut_with_their_token() -> None:
    entries = [
        TokenLogprob(0, "a", -1.0, b"a"),
        TokenLogprob(1, "", -1.0, b"\xff"),
        TokenLogprob(2, "\ufffdb", -1.0, b"b"),
        TokenLogprob(3, "c", -1.0, b"c"),
    ]
    assert joined(aligned(entries, 3)) == ("a\ufffdb", b"a\xffb")
    assert joined(aligned(entries, 1)) == ("a", b"a")
