"""What each token of a prompt says: texts that join to the prompt's text."""

from collections.abc import Sequence
from itertools import pairwise, zip_longest

from decoders.core import Prompt, TokenLogprob
from server.engines.text import ModelText
from server.engines.token_text import TokenText

SLACK = 4  # characters of a prompt's text that its tokens may leave out in one place


def described(text: ModelText, prompt: Prompt, logprobs: Sequence[TokenLogprob]) -> list[TokenLogprob]:
    """The `logprobs` of every token of `prompt` but the first, each token in them with its text and bytes."""
    reader = TokenText(text, (), skip_special=False)
    first, _ = reader.next(prompt.tokens[0])
    entries = reader.described(logprobs)
    said = [first, *(entry.text for entry in entries)]
    if "".join(said) == prompt.text:
        return list(entries)
    said = _spans(text, prompt) or _fitted(said, prompt.text)
    return [entry.worded(words, words.encode()) for entry, words in zip(entries, said[1:], strict=True)]


def _spans(text: ModelText, prompt: Prompt) -> list[str] | None:
    """As the tokenizer divided the text, if it can say and these are its tokens. What it has added has no text."""
    offsets = text.offsets(prompt)
    if offsets is None:
        return None
    bounds = [0]
    for (_, end), following in zip_longest(offsets, offsets[1:], fillvalue=(0, 0)):
        inside = following[0] < min(following[1], end)  # of the tokens of one character, the last has it
        bounds.append(max(bounds[-1], following[0] if inside else end))
    return _between([*bounds[:-1], len(prompt.text)], prompt.text)


def _fitted(said: Sequence[str], whole: str) -> list[str]:
    """Texts that join to `whole`, each `said` one where it comes next; what nobody says goes to the one after it."""
    bounds = [0]
    for words in said:
        at = whole.find(words.strip() or words, bounds[-1], bounds[-1] + len(words) + SLACK) if words else -1
        bounds.append(bounds[-1] if at < 0 else at + len(words.strip() or words))
    return _between([*bounds[:-1], len(whole)], whole)


def _between(bounds: Sequence[int], whole: str) -> list[str]:
    return [whole[a:b] for a, b in pairwise(bounds)]
