"""Alignment of tokens' log-probabilities with the text that is sent, whole or streamed.

The texts of a completion's tokens join to a string that begins with the completion's text. It may be longer than the
text: a stop string cuts the text, and a stop token is not part of it.
"""

from collections.abc import Sequence

from decoders.core import Candidate, TokenLogprob


def aligned(entries: Sequence[TokenLogprob], length: int) -> list[TokenLogprob]:
    """Return the entries with their texts cut to the first `length` characters of all, and their bytes likewise."""
    fitted: list[TokenLogprob] = []
    group: list[TokenLogprob] = []  # tokens of one character: the last of them has its text
    over = False
    for entry in entries:
        group.append(entry)
        if entry.text:
            over = over or len(entry.text) > length
            fitted += _cut(group, entry.text[:length]) if over else group
            length = max(0, length - len(entry.text))
            group = []
    return fitted + (_cut(group, "") if over else group)


def _cut(group: Sequence[TokenLogprob], text: str) -> list[TokenLogprob]:
    """Return the tokens of `group` with their joint text cut to `text`, and their bytes cut where it ends."""
    data = b"".join(entry.raw for entry in group)
    sizes = (size for size in range(len(data) + 1) if data[:size].decode(errors="replace") == text)
    left = next(sizes, len(text.encode()))
    kept: list[TokenLogprob] = []
    for entry in group:
        raw = entry.raw[:left]
        left -= len(raw)
        kept.append(entry.worded(text if entry is group[-1] else "", raw))
    return kept


class HeldLogprobs:
    """Entries of one streamed choice that wait for their text to be sent.

    Text is held back while it may be the beginning of a stop string, so entries can be there before their text.
    """

    def __init__(self) -> None:
        self._entries: list[TokenLogprob] = []
        self._room = 0  # characters of text that were sent without their entries

    def take(self, piece: Candidate) -> list[TokenLogprob]:
        """Return the entries of the text sent up to `piece` that were not returned before; with the last piece, all."""
        self._entries += piece.logprobs or ()
        self._room += len(piece.text)
        if piece.finish is not None:
            return aligned(self._entries, self._room)
        end = count = used = 0
        for i, entry in enumerate(self._entries, 1):
            end += len(entry.text)
            if end > self._room:
                break
            if entry.text:  # the tokens before it without text have the first bytes of its character
                count, used = i, end
        sent, self._entries = self._entries[:count], self._entries[count:]
        self._room -= used
        return sent
