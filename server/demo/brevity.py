"""A reward that can be computed exactly: short sentences.

The demo's second guide was trained on it. Like `tone`, it is a plain function that a request may name as `reward`.
"""

import re
from itertools import pairwise

LONGEST = 40.0
"""Words per sentence at which the score stops falling; a text without a word scores as badly."""
SHORTEST = 4
"""A sentence of fewer words counts as one of this many, so that "No. No. No." gains nothing by it."""

# A full stop and its like, with closing quotes and brackets after it, before white space without a small letter after
# it, or at the end of the text. A dot within a number, or dots in the middle of a sentence, end nothing.
_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s+[^\sa-z]|\s*$)""")
_WORD = re.compile(r"[^\W\d_](?:[\w'’-]*\w)?")


def short_sentences(prompts: list[str], completions: list[str]) -> list[float]:
    """Return minus the words per sentence of each completion, in [-40, -4]; the prompts do not count.

    An unfinished sentence adds its words and no sentence, unless it is the only one: a text that is cut off is not
    brief.
    """
    del prompts
    return [_score(text) for text in completions]


def _score(text: str) -> float:
    ends = [0, *(found.end() for found in _END.finditer(text))]
    lengths = [len(_WORD.findall(text[start:end])) for start, end in pairwise(ends)]
    # Two stops without a word between them enclose no sentence.
    finished = [max(length, SHORTEST) for length in lengths if length]
    unfinished = len(_WORD.findall(text[ends[-1] :]))
    if not finished and not unfinished:
        return -LONGEST
    if not finished:
        return -min(float(max(unfinished, SHORTEST)), LONGEST)
    return -min((sum(finished) + unfinished) / len(finished), LONGEST)
