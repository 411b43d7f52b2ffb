"""OpenAI's formats of an answer, whole or streamed: what they have in common, and that of completions."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from decoders.core import Candidate, Prompt, TokenLogprob
from server.http.logprob_alignment import HeldLogprobs, aligned
from server.http.openai_logprobs import completion_logprobs
from server.http.schemas.responses import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChoice,
    CompletionChunk,
)
from server.http.token_details import NO_DETAILS, TokenDetails

Choice = CompletionChoice | ChatChoice | ChatChunkChoice
Chunk = CompletionChunk | ChatCompletionChunk


class AnswerFormat(Protocol):
    """The format of one answer; `rest` is the fields of the answer beside `object` and `choices`."""

    prefix: str
    """Of the answer's id."""

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> Choice:
        """Return a whole choice; `index` counts the choices of the answer."""

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> Choice | None:
        """Return the next piece of a streamed choice, or None where there is nothing to send yet."""

    def answer(self, choices: Sequence[Any], **rest: Any) -> Completion | ChatCompletion:
        """Return the whole answer."""

    def chunk(self, choices: Sequence[Any], **rest: Any) -> Chunk:
        """Return one event of a stream."""


class CompletionFormat:
    """The format of /v1/completions.

    Args:
        echo: whether the prompt stands before each completion.
        top: how many log-probabilities to give for a position, beside the token's own; None for none at all.
        details: what else to tell of tokens.
    """

    prefix = "cmpl-"

    def __init__(self, *, echo: bool, top: int | None, details: TokenDetails = NO_DETAILS) -> None:
        self._echo = echo
        self._top = top
        self._details = details
        self._held: dict[int, HeldLogprobs] = {}  # by the index of the streamed choice
        self._offsets: dict[int, int] = {}  # where the text of the choice's next token begins

    def choice(self, index: int, prompt: Prompt, candidate: Candidate) -> CompletionChoice:
        entries = aligned(candidate.logprobs or (), len(candidate.text))
        details = {**self._details.of_answer(candidate), **self._details.of_prompt(prompt, candidate)}
        return self._part(index, prompt if self._echo else None, candidate, entries, 0, details)

    def piece(self, index: int, prompt: Prompt, piece: Candidate) -> CompletionChoice:
        first = index not in self._held
        entries = self._held.setdefault(index, HeldLogprobs()).take(piece)
        offset = self._offsets.get(index, 0)
        details = self._details.of_answer(piece) | (self._details.of_prompt(prompt, piece) if first else {})
        part = self._part(index, prompt if self._echo and first else None, piece, entries, offset, details)
        if part.logprobs is not None:
            self._offsets[index] = offset + sum(map(len, part.logprobs.tokens))
        return part

    def answer(self, choices: Sequence[Any], **rest: Any) -> Completion:
        return Completion(object="text_completion", choices=choices, **rest)

    def chunk(self, choices: Sequence[Any], **rest: Any) -> CompletionChunk:
        return CompletionChunk(object="text_completion", choices=choices, **rest)

    def _part(
        self,
        index: int,
        prompt: Prompt | None,
        part: Candidate,
        entries: Sequence[TokenLogprob],
        offset: int,
        details: Mapping[str, Any],
    ) -> CompletionChoice:
        """Return `part`, after the text of `prompt` if there is one.

        Args:
            entries: the log-probabilities of `part`, aligned with its text.
            offset: where the first token's text begins, in characters.
            details: further fields.
        """
        text = "" if prompt is None else prompt.text
        known = (part.prompt_logprobs or ()) if prompt is not None else ()
        first = text[: len(text) - sum(len(token.text) for token in known if token is not None)]
        return CompletionChoice(
            index=index,
            text=text + part.text,
            logprobs=None if self._top is None else completion_logprobs([*known, *entries], first, offset),
            finish_reason=part.finish,
            stop_reason=part.stop,
            **details,
        )
