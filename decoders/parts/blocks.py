"""What strategies share that draw answers block by block."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from decoders.core import Candidate, Sampling
from decoders.errors import InvalidRequest


@dataclass
class FinalText:
    """The part of a growing answer that can no longer change, which is what a stream may send.

    The end of an unfinished answer may be the beginning of a stop string, and is held back.
    """

    stop: Sequence[str]
    tokens: int = field(default=0, init=False)
    characters: int = field(default=0, init=False)

    def take(self, answer: Candidate) -> Candidate:
        """Return the piece of `answer` that has become final since the last call."""
        hold = 0 if answer.finish else max(map(len, self.stop), default=1) - 1
        end = max(self.characters, len(answer.text) - hold)
        logprobs = None if answer.logprobs is None else answer.logprobs[self.tokens :]
        piece = replace(
            answer, tokens=answer.tokens[self.tokens :], text=answer.text[self.characters : end], logprobs=logprobs
        )
        self.tokens, self.characters = len(answer.tokens), end
        return piece


def block_bound(max_tokens: int, shortest: int, longest: int) -> tuple[int, int]:
    """Return how many blocks an answer may have, and how many tokens one candidate for each of them may draw in all.

    The t-th block follows at least t * shortest tokens, so a candidate for it has at most max_tokens - t * shortest
    left.

    Args:
        max_tokens: Tokens of the longest answer.
        shortest: Tokens of the shortest block that is kept, unless it ends the answer.
        longest: Tokens of the longest block.
    """
    starts = range(0, max_tokens, shortest)
    full = min(len(starts), max(0, (max_tokens - longest) // shortest + 1))  # blocks with room for `longest` tokens
    rest = starts[full:]
    return len(starts), full * longest + len(rest) * max_tokens - sum(rest)


def check_blocks(sampling: Sampling) -> None:
    """Raise `InvalidRequest` for sampling parameters whose effect would start again with each block."""
    for name, neutral in (("presence_penalty", 0), ("frequency_penalty", 0), ("repetition_penalty", 1)):
        if getattr(sampling, name) != neutral:
            message = f"A penalty would start again with each block: leave it at {neutral} for this strategy."
            raise InvalidRequest(message, f"sampling.{name}")
    if sampling.bad_words:
        message = "A bad word that crosses from one block to the next would not be seen: leave them out here."
        raise InvalidRequest(message, "sampling.bad_words")
    if sampling.grammar is not None:
        message = "A grammar would start again with each block: this strategy cannot keep to it."
        raise InvalidRequest(message, "sampling.grammar")
    if sampling.prompt_logprobs is not None:
        message = "This strategy sees the prompt only as the beginning of blocks: leave echo out."
        raise InvalidRequest(message, "sampling.prompt_logprobs")
