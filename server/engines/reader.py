"""The text of one answer, token by token: what it says so far, and where a stop string ends it.

An answer that is drawn in stretches has one text all the same: a character's bytes may be split between two tokens, and
a stop string between two stretches. So vLLM's own detokenizer reads the whole answer here, instead of each stretch in
the engine, and finds the stop string that it would find in an answer drawn in one piece: the one that completes first,
after `min_tokens`.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import replace

from decoders.core import Candidate, Finish, Sampling, Tokens, join
from server.engines.detokenizer import after, twin
from server.engines.text import ModelText
from server.engines.token_text import TokenText


class Reader:
    """Reads one answer to `prompt`. A string of `block_stop` ends a stretch, and is kept.

    Where the prompt's tokens end inside a character, the answer's text begins with that character if the answer
    completes it; vLLM alone would repeat the prompt's text there.
    """

    def __init__(self, text: ModelText, prompt: Tokens, sampling: Sampling, block_stop: Sequence[str] = ()) -> None:
        self._block_stop = tuple(block_stop)
        self._sampling = sampling
        self._sent = 0  # characters that pieces have had
        self._count = 0
        self._detokenizer, self._prompt_end = after(text, prompt, sampling)
        skip = sampling.skip_special_tokens
        self._tokens = None if sampling.logprobs is None else TokenText(text, prompt, skip_special=skip)

    def twin(self) -> "Reader":
        """Another reader that has read as much."""
        other = copy(self)
        other._detokenizer = twin(self._detokenizer)
        other._tokens = self._tokens and self._tokens.twin()
        return other

    @property
    def text(self) -> str:
        """What the answer says so far: whole characters, without a stop string that is not to be included."""
        # Bytes that the prompt's end leaves incomplete for good are the prompt's.
        text: str = self._detokenizer.output_text
        return text.removeprefix(self._prompt_end) if self._prompt_end else text

    def read(self, tokens: Tokens) -> "Reader":
        """Take tokens that are known not to end the answer."""
        self._detokenizer.update(list(tokens), stop_terminated=False)
        if self._tokens is not None:
            self._tokens.read(tokens)
        self._count += len(tokens)
        self._sent = len(self.text)
        return self

    def piece(self, drawn: Candidate) -> tuple[Candidate, bool]:
        """`drawn` as the answer's next piece, and whether its stretch ends with it.

        Args:
            drawn: What the engine drew next; its `finish` is "stop" where a token ended it, "length" where the engine
                has drawn as much as it was asked for.

        The piece ends after the token that completes a stop string, and has a `finish` only where the answer ends: by a
        token, by a stop string, or at `max_tokens`. Its text is what can no longer change: the end of an unfinished
        answer may be the beginning of a stop string, and is held back.
        """
        count, stop, closed = self._take(drawn.tokens, ended=drawn.finish == "stop")
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
            else self._tokens.described(drawn.logprobs[:count]),
            trimmed=stop is not None,  # a token may run past a stop string that is included
        )
        return piece, closed or (all_read and drawn.finish is not None) or finish is not None

    def _take(self, tokens: Tokens, *, ended: bool) -> tuple[int, str | None, bool]:
        """How many of `tokens` belong to the stretch, the stop string that ends the answer, and whether one ends it.

        The engine may hand over several tokens at once: what comes after the one that ends it is left out.
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


async def stretch(prefix: Candidate, draw: AsyncGenerator[Candidate], reader: Reader) -> tuple[Candidate, int]:
    """`prefix` and the stretch of pieces after it, and the tokens drawn."""
    pieces, count = [prefix], 0
    async with aclosing(read_pieces(draw, reader)) as read:
        async for piece, drawn in read:
            pieces.append(piece)
            count += drawn
    return replace(join(pieces), text=reader.text), count


async def read_pieces(draw: AsyncGenerator[Candidate], reader: Reader) -> AsyncGenerator[tuple[Candidate, int]]:
    """Pieces as `reader` reads them, each with the tokens drawn; drawing stops where the stretch ends."""
    async with aclosing(draw) as pieces:
        async for drawn in pieces:
            piece, ends = reader.piece(drawn)
            yield piece, len(drawn.tokens)
            if ends:
                return
