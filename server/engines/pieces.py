"""How a vocabulary writes bytes: needed for tokens that are only a part of a character."""

import re
from functools import cached_property
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # of vocabularies that have bytes as a last resort


class Pieces:
    """The pieces of a tokenizer's vocabulary."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._raw: dict[int, bytes] = {}

    @cached_property
    def special(self) -> dict[int, str]:
        """Special tokens by id, with their names."""
        added = self._tokenizer.added_tokens_decoder
        return {token: added_token.content for token, added_token in added.items() if added_token.special}

    def raw(self, token: int) -> bytes:
        """The bytes of a token that has no text of its own."""
        if token not in self._raw:
            self._raw[token] = self._bytes(token)
        return self._raw[token]

    def _bytes(self, token: int) -> bytes:
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        byte = _BYTE.fullmatch(piece)
        if byte:
            return bytes([int(byte[1], 16)])
        if self._writes_bytes and all(c in _BYTES for c in piece):
            return bytes(_BYTES[c] for c in piece)
        return piece.encode()

    @cached_property
    def _writes_bytes(self) -> bool:
        """Whether the vocabulary writes each byte as a character: then that of 0xC3, alone, is no text."""
        token = self._tokenizer.get_vocab().get("Ã")
        return token is not None and self._tokenizer.decode([token]) != "Ã"


def _byte_characters() -> dict[str, int]:
    """The characters that byte-level vocabularies write bytes with: printable ones as they are, others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + i): b for i, b in enumerate(others)}}


_BYTES = _byte_characters()
