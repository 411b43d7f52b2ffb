"""The bytes that each token of a vocabulary stands for: needed for tokens that are only a part of a character."""

import re
from functools import cached_property
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # in vocabularies that fall back to bytes


class TokenBytes:
    """The bytes of a tokenizer's tokens, and its special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}

    @cached_property
    def special(self) -> dict[int, str]:
        """Special tokens by id, with their names."""
        added = self._tokenizer.added_tokens_decoder
        return {token: added_token.content for token, added_token in added.items() if added_token.special}

    def raw(self, token: int) -> bytes:
        """Return the bytes of a token that has no text by itself."""
        if token not in self._known:
            self._known[token] = self._bytes(token)
        return self._known[token]

    def _bytes(self, token: int) -> bytes:
        entry = str(self._tokenizer.convert_ids_to_tokens(token))
        byte = _BYTE.fullmatch(entry)
        if byte:
            return bytes([int(byte[1], 16)])
        if self._is_byte_level and all(c in _BYTES for c in entry):
            return bytes(_BYTES[c] for c in entry)
        return entry.encode()

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether the vocabulary writes each byte as one character: then the character for 0xC3, alone, is no text."""
        token = self._tokenizer.get_vocab().get("Ã")
        return token is not None and self._tokenizer.decode([token]) != "Ã"


def _byte_characters() -> dict[str, int]:
    """Return the byte behind each character of a byte-level vocabulary: printable ones are themselves, others from 256
    on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + i): b for i, b in enumerate(others)}}


_BYTES = _byte_characters()
