"""The text that each token of an answer adds, and the bytes it stands for.

A token may hold only a part of a character. The token that completes a character has it in its text and the tokens
before it have no text, so the texts of an answer's tokens join to the answer's text. Each token's bytes are its own.
"""

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any

from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

from decoders.core import Alternative, Sampling, TokenLogprob, Tokens
from server.engines.text.detokenizer import copy_detokenizer, detokenizer_after
from server.engines.text.model_text import ModelText


class TokenText:
    """Reads the tokens of one answer to `prompt`, in order.

    A special token that `skip_special` skips has no text where it stands; as an alternative it has its name as text.
    """

    def __init__(self, text: ModelText, prompt: Tokens, *, skip_special: bool) -> None:
        self._token_bytes = text.token_bytes
        self._skip_special = skip_special
        sampling = Sampling(skip_special_tokens=skip_special)
        self._detokenizer, self._prompt_end = detokenizer_after(text, prompt, sampling)
        self._open = b""  # bytes read of a character that is not complete

    def copy(self) -> "TokenText":
        """Return another reader that has read the same tokens."""
        other = copy(self)
        other._detokenizer = copy_detokenizer(self._detokenizer)
        return other

    def read(self, tokens: Tokens) -> "TokenText":
        """Read tokens; return this reader."""
        for token in tokens:
            self.next(token)
        return self

    def with_text(self, logprobs: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
        """Read the tokens of `logprobs` and return these, each token in them with its text and bytes."""
        return tuple(self._with_text(entry) for entry in logprobs)

    def _with_text(self, entry: TokenLogprob) -> TokenLogprob:
        others = {a.token: self._alternative(a) for a in entry.top if a.token != entry.token}
        text, raw = self.next(entry.token)
        return replace(entry, top=tuple(others.get(a.token, a) for a in entry.top)).worded(text, raw)

    def next(self, token: int) -> tuple[str, bytes]:
        """Read a token; return its text and bytes."""
        text, raw = self._text_and_bytes(token, _step(self._detokenizer, token))
        if text:
            self._prompt_end = ""
        self._open = b"" if text else self._open + raw
        return text, raw

    def _alternative(self, other: Alternative) -> Alternative:
        if self._skip_special and other.token in self._token_bytes.special:
            text = self._token_bytes.special[other.token]
            raw = text.encode()
        else:
            text, raw = self._text_and_bytes(other.token, _peek(self._detokenizer, other.token))
        return replace(other, text=text, raw=raw)

    def _text_and_bytes(self, token: int, output: str) -> tuple[str, bytes]:
        """Return the text and the bytes of `token`, of the detokenizer's `output` for it."""
        text = output.removeprefix(self._prompt_end) if self._prompt_end else output
        data = text.encode()
        if text and data.startswith(self._open):
            return text, data[len(self._open) :]
        skipped = self._skip_special and token in self._token_bytes.special
        return text, b"" if skipped else self._token_bytes.raw(token)


def _step(detokenizer: Any, token: int) -> str:
    """Return the text that `token` adds."""
    if not isinstance(detokenizer, FastIncrementalDetokenizer):  # the slow one looks for the token in its list
        detokenizer.token_ids.append(token)
    return str(detokenizer.decode_next(token))


def _peek(detokenizer: Any, token: int) -> str:
    """Return the text that `token` would add, and leave the detokenizer as it is."""
    if isinstance(detokenizer, FastIncrementalDetokenizer):
        with suppress(Exception):  # from which vLLM's own step recovers
            return copy(detokenizer.stream).step(detokenizer.tokenizer, token) or ""
    return _step(copy_detokenizer(detokenizer), token)
