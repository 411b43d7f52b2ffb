"""How the two APIs word a completion: OpenAI's completions, and its chat completions."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from decoders.core import Alternative, Candidate, Prompt, TokenLogprob
from server.http.logprob_alignment import Held, aligned

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
        self._held: dict[int, Held] = {}  # of each streamed choice
        self._offsets: dict[int, int] = {}  # where its next token's text begins

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> Json:
        entries = aligned(candidate.logprobs or (), len(candidate.text))
        return self._part(index, prompt if self._echo else None, candidate, entries, 0)

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> Json:
        first = index not in self._held
        entries = self._held.setdefault(index, Held()).take(piece)
        offset = self._offsets.get(index, 0)
        part = self._part(index, prompt if self._echo and first else None, piece, entries, offset)
        if self._top is not None:
            self._offsets[index] = offset + sum(map(len, part["logprobs"]["tokens"]))
        return part

    def _part(
        self, index: int, prompt: Prompt | None, part: Candidate, entries: Sequence[TokenLogprob], offset: int
    ) -> Json:
        """`part` after the text of `prompt`, if any; its first token's text begins at `offset`."""
        text = "" if prompt is None else prompt.text
        known = (part.prompt_logprobs or ()) if prompt is not None else ()
        first = text[: len(text) - sum(len(token.text) for token in known if token is not None)]
        return {
            "index": index,
            "text": text + part.text,
            "logprobs": None if self._top is None else _columns([*known, *entries], first, offset),
            "finish_reason": part.finish,
            "stop_reason": part.stop,
        }


class Chat:
    """chat.completion objects."""

    prefix, whole, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, top: int | None) -> None:
        self._top = top
        self._held: dict[int, Held] = {}  # of each streamed choice

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> Json:  # noqa: ARG002
        return {
            "index": index,
            "message": {"role": "assistant", "content": candidate.text, "refusal": None},
            "logprobs": self._logprobs(aligned(candidate.logprobs or (), len(candidate.text))),
            "finish_reason": candidate.finish,
            "stop_reason": candidate.stop,
        }

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> Json:  # noqa: ARG002
        delta: Json = {"content": piece.text}
        if index not in self._held:
            self._held[index] = Held()
            delta = {"role": "assistant", **delta}
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(self._held[index].take(piece)),
            "finish_reason": piece.finish,
            "stop_reason": piece.stop,
        }

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> Json | None:
        if self._top is None:
            return None
        content = [
            {**_entry(token), "top_logprobs": [_entry(other) for other in token.top if self._top]} for token in entries
        ]
        return {"content": content, "refusal": None}


def _columns(tokens: Sequence[TokenLogprob | None], first: str, offset: int) -> Json:
    """Completions' log-probabilities. The first token of a prompt has none, and the text `first`."""
    columns: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        word = first if token is None else token.text
        columns["tokens"].append(word)
        columns["token_logprobs"].append(None if token is None else _finite(token.logprob))
        columns["top_logprobs"].append(None if token is None else _by_text(token.top))
        columns["text_offset"].append(offset)
        offset += len(word)
    return columns


def _by_text(top: Sequence[Alternative]) -> dict[str, float]:
    """Of two tokens with one text, as parts of characters have, the likelier."""
    found: dict[str, float] = {}
    for token in top:
        found[token.text] = max(_finite(token.logprob), found.get(token.text, -math.inf))
    return found


def _entry(token: Alternative) -> Json:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.raw)}


def _finite(logprob: float) -> float:
    """JSON has no -inf; OpenAI writes -9999 for a token that cannot be."""
    return logprob if math.isfinite(logprob) else -9999.0
