"""The text of each token of a prompt: texts that join to the prompt's text."""

from collections.abc import Sequence
from itertools import pairwise, zip_longest

from decoders.core import Prompt, TokenLogprob
from server.engines.text.model_text import ModelText
from server.engines.text.token_text import TokenText

SLACK = 4  # characters of a prompt's text that its tokens may leave out in one place


def prompt_logprobs_with_text(text: ModelText, prompt: Prompt, logprobs: Sequence[TokenLogprob]) -> list[TokenLogprob]:
    """Return `logprobs`, of every token of `prompt` but the first, each token in them with its text and bytes."""
    reader = TokenText(text, (), skip_special=False)
    first, _ = reader.next(prompt.tokens[0])
    entries = reader.with_text(logprobs)
    texts = [first, *(entry.text for entry in entries)]
    if "".join(texts) == prompt.text:
        return list(entries)
    texts = _texts_by_offsets(text, prompt) or _texts_by_search(texts, prompt.text)
    return [entry.worded(own, own.encode()) for entry, own in zip(entries, texts[1:], strict=True)]


def _texts_by_offsets(text: ModelText, prompt: Prompt) -> list[str] | None:
    """Return each token's text as the tokenizer divides the prompt's text; a special token that it adds has no text.

    None if the tokenizer has no offsets, or divides the text into other tokens.
    """
    offsets = text.offsets(prompt)
    if offsets is None:
        return None
    bounds = [0]
    for (_, end), following in zip_longest(offsets, offsets[1:], fillvalue=(0, 0)):
        inside = following[0] < min(following[1], end)  # of the tokens of one character, the last has its text
        bounds.append(max(bounds[-1], following[0] if inside else end))
    return _between([*bounds[:-1], len(prompt.text)], prompt.text)


def _texts_by_search(texts: Sequence[str], whole: str) -> list[str]:
    """Return texts that join to `whole`: each of `texts` where it occurs next, with what stands before it."""
    bounds = [0]
    for own in texts:
        at = whole.find(own.strip() or own, bounds[-1], bounds[-1] + len(own) + SLACK) if own else -1
        bounds.append(bounds[-1] if at < 0 else at + len(own.strip() or own))
    return _between([*bounds[:-1], len(whole)], whole)


def _between(bounds: Sequence[int], whole: str) -> list[str]:
    return [whole[a:b] for a, b in pairwise(bounds)]
