"""How the two APIs word a completion: OpenAI's completions, and its chat completions."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from decoders.core import Alternative, Candidate, Prompt, TokenLogprob

Json = dict[str, Any]


class Shape(Protocol):
    """One choice, whole or in pieces. `index` numbers the choices of a response."""

    prefix: str
    whole: str
    chunk: str

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> Json: ...

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> Json: ...


class Completions:
    """text_completion objects. `top` is how many log-probabilities were asked for, or None."""

    prefix, whole, chunk = "cmpl-", "text_completion", "text_completion"

    def __init__(self, *, echo: bool, top: int | None) -> None:
        self._echo = echo
        self._top = top
        self._offsets: dict[int, int] = {}  # characters of each streamed choice so far

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> Json:
        text, tokens = self._contents(prompt, candidate, first=True)
        return {
            "index": index,
            "text": text,
            "logprobs": None if self._top is None else _columns(tokens, text, 0),
            "finish_reason": candidate.finish,
            "stop_reason": candidate.stop,
        }

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> Json:
        first = index not in self._offsets
        text, tokens = self._contents(prompt, piece, first=first)
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(text)
        return {
            "index": index,
            "text": text,
            "logprobs": None if self._top is None else _columns(tokens, text, offset),
            "finish_reason": piece.finish,
            "stop_reason": piece.stop,
        }

    def _contents(self, prompt: Prompt, part: Candidate, *, first: bool) -> tuple[str, list[TokenLogprob | None]]:
        text, tokens = "", list[TokenLogprob | None]()
        if self._echo and first:
            text, tokens = prompt.text, list(part.prompt_logprobs or ())
        return text + part.text, tokens + list(part.logprobs or ())


class Chat:
    """chat.completion objects."""

    prefix, whole, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, top: int | None) -> None:
        self._top = top
        self._begun: set[int] = set()

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> Json:  # noqa: ARG002
        return {
            "index": index,
            "message": {"role": "assistant", "content": candidate.text, "refusal": None},
            "logprobs": self._logprobs(candidate),
            "finish_reason": candidate.finish,
            "stop_reason": candidate.stop,
        }

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> Json:  # noqa: ARG002
        delta: Json = {"content": piece.text}
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(piece),
            "finish_reason": piece.finish,
            "stop_reason": piece.stop,
        }

    def _logprobs(self, part: Candidate) -> Json | None:
        if self._top is None:
            return None
        content = [
            {**_entry(token), "top_logprobs": [_entry(other) for other in token.top[: self._top]]}
            for token in part.logprobs or ()
        ]
        return {"content": content, "refusal": None}


def _columns(tokens: Sequence[TokenLogprob | None], text: str, offset: int) -> Json:
    """Completions' log-probabilities; the first token of a prompt has none, and its text is what the others leave."""
    columns: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    rest = "".join(token.text for token in tokens if token is not None)
    first = text[: len(text) - len(rest)] if text.endswith(rest) else ""
    for token in tokens:
        word = first if token is None else token.text
        columns["tokens"].append(word)
        columns["token_logprobs"].append(None if token is None else _finite(token.logprob))
        columns["top_logprobs"].append(None if token is None else {a.text: _finite(a.logprob) for a in token.top})
        columns["text_offset"].append(offset)
        offset += len(word)
    return columns


def _entry(token: Alternative) -> Json:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.text.encode())}


def _finite(logprob: float) -> float:
    """JSON has no -inf; OpenAI writes -9999 for a token that cannot be."""
    return logprob if math.isfinite(logprob) else -9999.0
