"""The text of one answer, token by token, and where a stop string ends it.

An answer that several engine requests draw has one text all the same: a character's bytes may be split between two
tokens, and a stop string between two blocks. So vLLM's own detokenizer reads the whole answer here, instead of each
block in the engine, and finds the stop string that it would find in an answer drawn by one request: the one that
completes first, after `min_tokens`.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import replace

from decoders.core import Candidate, Finish, Sampling, Tokens, join
from server.engines.text.detokenizer import copy_detokenizer, detokenizer_after
from server.engines.text.model_text import ModelText
from server.engines.text.token_text import TokenText


class AnswerReader:
    """Reads one answer to `prompt`. A string of `block_stop` ends a block, and stays in the text.

    Where the prompt's tokens end inside a character, the answer's text begins with that character if the answer
    completes it; vLLM alone would repeat the prompt's text there.
    """

    def __init__(self, text: ModelText, prompt: Tokens, sampling: Sampling, block_stop: Sequence[str] = ()) -> None:
        self._block_stop = tuple(block_stop)
        self._sampling = sampling
        self._sent = 0  # characters of the text that earlier pieces have
        self._count = 0
        self._detokenizer, self._prompt_end = detokenizer_after(text, prompt, sampling)
        skip = sampling.skip_special_tokens
        self._tokens = None if sampling.logprobs is None else TokenText(text, prompt, skip_special=skip)

    def copy(self) -> "AnswerReader":
        """Return another reader that has read the same tokens."""
        other = copy(self)
        other._detokenizer = copy_detokenizer(self._detokenizer)
        other._tokens = self._tokens and self._tokens.copy()
        return other

    @property
    def text(self) -> str:
        """The answer's text so far: whole characters, without a stop string that is not to be included."""
        # Bytes at the prompt's end that the answer does not complete belong to the prompt.
        text: str = self._detokenizer.output_text
        return text.removeprefix(self._prompt_end) if self._prompt_end else text

    def read_prefix(self, tokens: Tokens) -> "AnswerReader":
        """Read tokens that are known not to end the answer; return this reader."""
        self._detokenizer.update(list(tokens), stop_terminated=False)
        if self._tokens is not None:
            self._tokens.read(tokens)
        self._count += len(tokens)
        self._sent = len(self.text)
        return self

    def read_piece(self, drawn: Candidate) -> tuple[Candidate, bool]:
        """Return `drawn` as the answer's next piece, and whether the block ends with it.

        Args:
            drawn: What the engine drew next; its `finish` is "stop" where a token ended it, "length" where the engine
                has drawn as many tokens as the request allows.

        The piece ends after the token that completes a stop string, and has a `finish` only where the answer ends: by a
        token, by a stop string, or at `max_tokens`. Its text can no longer change: the end of an unfinished answer may
        be the beginning of a stop string, and is held back.
        """
        count, stop, closed = self._read_up_to_stop(drawn.tokens, ended=drawn.finish == "stop")
        all_read = count == len(drawn.tokens)
        finish: Finish | None = None
        if stop is not None or (all_read and drawn.finish == "stop"):
            finish = "stop"
        elif self._count >= self._sampling.max_tokens:
            finish = "length"
        holds_back = finish is None and not self._sampling.include_stop_str_in_output
        hold = max(map(len, self._sampling.stop), default=1) - 1 if holds_back else 0
        begin, self._sent = self._sent, max(self._sent, len(self.text) - hold)
        piece = replace(
            drawn,
            tokens=drawn.tokens[:count],
            text=self.text[begin : self._sent],
            finish=finish,
            stop=None if finish != "stop" else drawn.stop if stop is None else stop,
            logprobs=None
            if drawn.logprobs is None or self._tokens is None
            else self._tokens.with_text(drawn.logprobs[:count]),
            trimmed=stop is not None,  # a token may run past a stop string that is included
        )
        return piece, closed or (all_read and drawn.finish is not None) or finish is not None

    def _read_up_to_stop(self, tokens: Tokens, *, ended: bool) -> tuple[int, str | None, bool]:
        """Return how many of `tokens` belong to the block, the stop string that ends the answer, and whether a string
        ends the block.

        The engine may hand over several tokens at once: those after the one that ends the block are left out.
        """
        for i, token in enumerate(tokens, 1):
            before = len(self.text)
            stop: str | None = self._detokenizer.update([token], stop_terminated=ended and i == len(tokens))
            self._count += 1
            if stop is not None:
                return i, stop, True
            text = self.text
            if any(text.find(s, max(0, before - len(s) + 1)) >= 0 for s in self._block_stop):
                return i, None, True
        return len(tokens), None, False


async def read_block(prefix: Candidate, draw: AsyncGenerator[Candidate], reader: AnswerReader) -> tuple[Candidate, int]:
    """Return `prefix` with the block of pieces after it, and the number of tokens drawn."""
    pieces, count = [prefix], 0
    async with aclosing(read_pieces(draw, reader)) as read:
        async for piece, drawn in read:
            pieces.append(piece)
            count += drawn
    return replace(join(pieces), text=reader.text), count


async def read_pieces(draw: AsyncGenerator[Candidate], reader: AnswerReader) -> AsyncGenerator[tuple[Candidate, int]]:
    """Yield pieces as `reader` reads them, each with the number of tokens drawn; stop drawing where the block ends."""
    async with aclosing(draw) as pieces:
        async for drawn in pieces:
            piece, ends = reader.read_piece(drawn)
            yield piece, len(drawn.tokens)
            if ends:
                return
