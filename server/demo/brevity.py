"""A reward that can be read off exactly: short sentences.

It is what the demo's second guide was trained on, and like `tone` it is a plain function, for a request's `reward`.
"""

import re
from itertools import pairwise

LONGEST = 40.0
"""Words per sentence at which the score stops falling; a text without a word scores as badly."""
SHORTEST = 4
"""A sentence of fewer words counts as one of this many, so that "No. No. No." gains nothing by it."""

# A stop, with what closes a quotation or a bracket after it, before a gap and no small letter, or at the end of the
# text. So a dot within a number, or dots that trail off in mid-sentence, end nothing.
_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s+[^\sa-z]|\s*$)""")
_WORD = re.compile(r"[^\W\d_](?:[\w'’-]*\w)?")


def short_sentences(prompts: list[str], completions: list[str]) -> list[float]:
    """Minus the words per sentence of each completion, in [-40, -4]; the prompts do not count.

    The words of an unfinished sentence count in full and it as no sentence, unless it is the only one: to be cut off
    is not to be brief.
    """
    del prompts
    return [_score(text) for text in completions]


def _score(text: str) -> float:
    ends = [0, *(found.end() for found in _END.finditer(text))]
    lengths = [len(_WORD.findall(text[start:end])) for start, end in pairwise(ends)]
    # Stops without a word between them are no sentences.
    finished = [max(length, SHORTEST) for length in lengths if length]
    unfinished = len(_WORD.findall(text[ends[-1] :]))
    if not finished and not unfinished:
        return -LONGEST
    if not finished:
        return -min(float(max(unfinished, SHORTEST)), LONGEST)
    return -min((sum(finished) + unfinished) / len(finished), LONGEST)
