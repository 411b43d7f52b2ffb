"""A block put after what was there before: the whole answer's tokens, text and end.

Texts of blocks cannot simply be joined: a character's bytes may be split between two tokens, and a stop string between
two blocks. So the text is decoded anew from all tokens, and stop strings are looked for in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from decoders.core import Alternative, Candidate, Finish, Sampling, TokenLogprob, Tokens

PARTIAL = "�"  # what incomplete bytes decode to


def whole(begun: Candidate, block: Candidate, sampling: Sampling, text_of: Callable[[Tokens], str]) -> Candidate:
    """`begun` and `block`, with `finish` None where it may go on.

    `block.stop` is a token id where the policy stopped by one; a stop string of `sampling` is found wherever it began.
    """
    tokens = begun.tokens + block.tokens
    told = None if block.logprobs is None else _retold(begun.tokens, block.logprobs, text_of)
    logprobs = None if told is None else (*(begun.logprobs or ()), *told)
    by_token = block.finish == "stop" and not isinstance(block.stop, str)
    # Bytes that make no character yet: the next block may complete them; at the end, they are no text.
    text = text_of(tokens[:-1] if by_token and not sampling.include_stop else tokens).rstrip(PARTIAL)
    found = _first(text, sampling.stop, len(begun.text))
    if found is not None:
        at, stop = found
        count = _tokens_until(tokens, len(begun.tokens), at + len(stop), text_of)
        cut = text[: at + len(stop)] if sampling.include_stop else text[:at]
        return Candidate(tokens[:count], cut, "stop", stop, _cut(logprobs, count), trimmed=not sampling.include_stop)
    finish: Finish | None = "stop" if by_token else "length" if len(tokens) >= sampling.max_tokens else None
    return Candidate(tokens, text, finish, block.stop if by_token else None, logprobs)


def _retold(
    before: Tokens, logprobs: Sequence[TokenLogprob], text_of: Callable[[Tokens], str]
) -> tuple[TokenLogprob, ...]:
    """The block's tokens with the texts they have after `before`: the first may end a character that began there."""
    told = list(logprobs)
    for i, token in enumerate(told):
        begun = text_of(before)
        if not begun.endswith(PARTIAL):
            break
        known = len(begun.rstrip(PARTIAL))

        def text(of: Alternative, before: Tokens = before, known: int = known) -> str:
            # The engine has no text for a byte that is no character alone; all others it has right.
            return of.text or text_of((*before, of.token)).rstrip(PARTIAL)[known:]

        top = tuple(replace(other, text=text(other)) for other in token.top)
        told[i] = replace(token, text=text(token), top=top)
        before = (*before, token.token)
    return tuple(told)


def _first(text: str, stops: Sequence[str], before: int) -> tuple[int, str] | None:
    """Where the first stop string begins that ends after the first `before` characters."""
    found = [(text.find(stop, max(0, before - len(stop) + 1)), stop) for stop in stops]
    return min(((at, stop) for at, stop in found if at >= 0), default=None)


def _tokens_until(tokens: Tokens, least: int, characters: int, text_of: Callable[[Tokens], str]) -> int:
    """The fewest tokens whose text has so many characters; more than `least`, fewer of which lack the stop string."""
    return next(
        (n for n in range(least + 1, len(tokens)) if len(text_of(tokens[:n]).rstrip(PARTIAL)) >= characters),
        len(tokens),
    )


def _cut(logprobs: tuple[TokenLogprob, ...] | None, count: int) -> tuple[TokenLogprob, ...] | None:
    return None if logprobs is None else logprobs[:count]
