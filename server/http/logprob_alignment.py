"""Log-probabilities beside text: a token's entry goes with its text, whole or streamed.

The texts of a completion's tokens join to all that they say, of which its own text is the beginning: a stop string cuts
it, and so do tokens that only say where it ends.
"""

from collections.abc import Sequence

from decoders.core import Candidate, TokenLogprob


def aligned(entries: Sequence[TokenLogprob], length: int) -> list[TokenLogprob]:
    """The entries with texts that join to the first `length` characters, and bytes that join to theirs."""
    fitted: list[TokenLogprob] = []
    group: list[TokenLogprob] = []  # tokens whose text the last of them has
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
    """The tokens with only the `text` that theirs begins with."""
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
    """Entries of one streamed choice that wait for their text: the end of it may be the beginning of a stop string.

    The entries that all pieces give are those of the whole choice.
    """

    def __init__(self) -> None:
        self._entries: list[TokenLogprob] = []
        self._room = 0  # characters that were sent without their entries

    def take(self, piece: Candidate) -> list[TokenLogprob]:
        """The entries that go with `piece`, or with those before it: all that are left, where it is the last."""
        self._entries += piece.logprobs or ()
        self._room += len(piece.text)
        if piece.finish is not None:
            return aligned(self._entries, self._room)
        end = count = used = 0
        for i, entry in enumerate(self._entries, 1):
            end += len(entry.text)
            if end > self._room:
                break
            if entry.text:  # those before it may hold its first bytes
                count, used = i, end
        sent, self._entries = self._entries[:count], self._entries[count:]
        self._room -= used
        return sent
