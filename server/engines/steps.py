"""What a process reward model reads that scores each step of an answer at a tag behind it.

    the turn so far   step_1 tag step_2 tag .. step_n tag   what the chat template closes the turn with
    reward = reduce(score at tag_i, for the steps i of the completion)

Steps are what lies between separators in the assistant's turn, blank ones left out; a turn that may still go on ends in
an unfinished step, which is closed by a tag like any other. Tags are put between tokens, as tokens: no text is read
over a step's end, and a score is taken only where a tag was put. So a tag that stands in the prompt, or that the model
has written itself, is no step; in the completion it is read as ordinary text where the tokenizer can.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from decoders.core import Prompt, Tokens
from decoders.errors import RewardFailed
from server.engines.reading import Reading
from server.engines.text import ModelText
from server.settings import ProcessReward, SettingsError


@dataclass(frozen=True, slots=True)
class Tagged:
    """Token ids, and the positions of the tags that close the completion's steps."""

    tokens: Tokens
    ends: tuple[int, ...]


class Steps:
    """The steps of completions, by a reward's settings and its model's tokenizer."""

    def __init__(self, settings: ProcessReward, text: ModelText) -> None:
        """Raises `SettingsError` if the tag is not one token."""
        assert settings.step_tag is not None
        self._written, self._separator, self._text = settings.step_tag, settings.step_separator, text
        tokens = text.tokens(self._written, special=False)
        if len(tokens) != 1:
            raise SettingsError(f"step_tag '{self._written}' is not one token of reward model '{settings.model}'")
        [self.tag] = tokens

    async def read(self, reading: Reading, prompt: Prompt, completion: str) -> Tagged:
        """The whole as token ids; no ids if the completion has no step.

        A prompt may end within the assistant's turn. Its steps are tagged as well, as in one piece, and not scored.
        """
        prefix = ""
        if prompt.continues and prompt.messages and reading.template != "policy":
            prefix = prompt.messages[-1]["content"]
            prompt = replace(prompt, messages=prompt.messages[:-1], continues=False)
        steps, scored = self._split(prefix, completion)
        if not any(scored):
            return Tagged((), ())
        mark = _mark([prompt.text, prefix, completion, *(m["content"] for m in prompt.messages or ())])
        content = "".join(f"{step}[{mark}:{i}]" for i, step in enumerate(steps))
        if self._written in steps[0]:
            content = f"[{mark}:]{content}"
        text, special = reading.written(prompt, content)
        first, *rest = re.split(rf"\[{mark}:(\d*)\]", text)
        tokens, tail = await self._text.read_open(first, special=special)
        ends: list[int] = []
        for i, (step, piece) in enumerate(zip(rest[::2], rest[1::2], strict=True), 1):
            if step:
                if scored[int(step)]:
                    ends.append(len(tokens))
                tokens += (self.tag,)
            if 2 * i < len(rest) and self._written in piece:
                tokens += self._text.literally(piece)
            elif piece:
                tokens += await self._behind_tag(piece) if step else await self._text.read(piece, special=False)
        return Tagged(tokens + tail, tuple(ends))

    def scores(self, rows: Sequence[float], read: Tagged) -> list[float]:
        """Those of the completion's steps, of rows for each token, or for each tag where the engine gives no others."""
        places = [i for i, token in enumerate(read.tokens) if token == self.tag]
        if len(rows) == len(read.tokens):
            return [rows[end] for end in read.ends]
        if len(rows) != len(places):
            raise RewardFailed(
                f"it gave {len(rows)} scores for {len(read.tokens)} tokens, {len(places)} of which are step tags"
            )
        return [rows[places.index(end)] for end in read.ends]

    def _split(self, prefix: str, completion: str) -> tuple[list[str], list[bool]]:
        """The steps of the turn, and whether each has a part in the completion."""
        turn = prefix + completion
        steps: list[str] = []
        scored: list[bool] = []
        start = 0
        for step in turn.split(self._separator):
            end = start + len(step)
            if step.strip():
                steps.append(step)
                scored.append(bool(turn[max(start, len(prefix)) : end].strip()))
            start = end + len(self._separator)
        return steps, scored

    async def _behind_tag(self, text: str) -> Tokens:
        """Its ids where a tag comes before it: some tokenizers write the beginning of a text otherwise."""
        tokens = await self._text.read(self._written + text, special=False)
        return tokens[1:] if tokens[:1] == (self.tag,) else await self._text.read(text, special=False)


def _mark(texts: Sequence[str]) -> str:
    """A word that is in none of them."""
    number = 0
    while any(f"[step {number}:" in text for text in texts):
        number += 1
    return f"step {number}"
