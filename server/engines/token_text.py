"""What each token of an answer says: the text it adds, and the bytes it stands for.

A token may hold only a part of a character. The token that completes a character has it in its text, those before it
have none, and so the texts of an answer's tokens join to its text; each token's bytes are its own.
"""

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any

from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

from decoders.core import Alternative, Sampling, TokenLogprob, Tokens
from server.engines.detokenizer import after, twin
from server.engines.text import ModelText


class TokenText:
    """Reads the tokens of one answer to `prompt`, in order.

    A special token that is not to be read has no text where it stands; as a mere alternative it goes by its name.
    """

    def __init__(self, text: ModelText, prompt: Tokens, *, skip_special: bool) -> None:
        self._pieces = text.pieces
        self._skip_special = skip_special
        sampling = Sampling(skip_special_tokens=skip_special)
        self._detokenizer, self._prompt_end = after(text, prompt, sampling)
        self._open = b""  # of a character that is not complete

    def twin(self) -> "TokenText":
        """Another that has read as much."""
        other = copy(self)
        other._detokenizer = twin(self._detokenizer)
        return other

    def read(self, tokens: Tokens) -> "TokenText":
        for token in tokens:
            self.next(token)
        return self

    def described(self, logprobs: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
        """The next tokens' `logprobs`, each token in them with its text and bytes."""
        return tuple(self._described(entry) for entry in logprobs)

    def _described(self, entry: TokenLogprob) -> TokenLogprob:
        others = {a.token: self._alternative(a) for a in entry.top if a.token != entry.token}
        text, raw = self.next(entry.token)
        return replace(entry, top=tuple(others.get(a.token, a) for a in entry.top)).worded(text, raw)

    def next(self, token: int) -> tuple[str, bytes]:
        """Read a token; return its text and bytes."""
        text, raw = self._of(token, _step(self._detokenizer, token))
        if text:
            self._prompt_end = ""
        self._open = b"" if text else self._open + raw
        return text, raw

    def _alternative(self, other: Alternative) -> Alternative:
        if self._skip_special and other.token in self._pieces.special:
            text = self._pieces.special[other.token]
            raw = text.encode()
        else:
            text, raw = self._of(other.token, _peek(self._detokenizer, other.token))
        return Alternative(other.token, text, other.logprob, raw)

    def _of(self, token: int, said: str) -> tuple[str, bytes]:
        """Text and bytes of `token`, with which the detokenizer has `said` something."""
        text = said.removeprefix(self._prompt_end) if self._prompt_end else said
        data = text.encode()
        if text and data.startswith(self._open):
            return text, data[len(self._open) :]
        skipped = self._skip_special and token in self._pieces.special
        return text, b"" if skipped else self._pieces.raw(token)


def _step(detokenizer: Any, token: int) -> str:
    """What `token` adds to the text."""
    if not isinstance(detokenizer, FastIncrementalDetokenizer):  # it looks for the token there
        detokenizer.token_ids.append(token)
    return str(detokenizer.decode_next(token))


def _peek(detokenizer: Any, token: int) -> str:
    """What `token` would add to the text."""
    if isinstance(detokenizer, FastIncrementalDetokenizer):
        with suppress(Exception):  # from which vLLM's own step recovers
            return copy(detokenizer.stream).step(detokenizer.tokenizer, token) or ""
    return _step(twin(detokenizer), token)
