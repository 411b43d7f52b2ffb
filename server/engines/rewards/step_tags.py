"""What a process reward model reads if it scores each step of an answer at a tag after the step.

    the turn so far   step_1 tag step_2 tag .. step_n tag   what the chat template closes the turn with
    (with `keep_separator`, a separator follows each tag but the last)
    reward = reduce(score at tag_i, for the steps i of the completion)

Steps are what lies between separators in the assistant's turn, blank ones left out; a turn that may still go on ends in
an unfinished step, which gets a tag like any other. Tags are put between tokens, as tokens: no text is encoded across
the end of a step, and a score is taken only at a tag that was put there. So a tag that stands in the prompt, or that
the model wrote itself, is no step; in the completion it is read as ordinary text where the tokenizer can do that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from decoders.core import Prompt, Tokens
from decoders.errors import PublicRewardFailure
from server.engines.rewards.reward_text import RewardText
from server.engines.text.model_text import ModelText
from server.settings import ProcessReward, SettingsError


@dataclass(frozen=True, slots=True)
class TaggedTokens:
    """Token ids, and the positions of the tags after the completion's steps."""

    tokens: Tokens
    ends: tuple[int, ...]


class StepTagger:
    """Tags the steps of completions, by a reward's settings and its model's tokenizer."""

    def __init__(self, settings: ProcessReward, text: ModelText) -> None:
        """Raises `SettingsError` if the tag is not one token."""
        assert settings.step_tag is not None
        self._tag_text, self._separator, self._text = settings.step_tag, settings.step_separator, text
        self._keep = settings.keep_separator
        tokens = text.tokens(self._tag_text, special=False)
        if len(tokens) != 1:
            raise SettingsError(f"step_tag '{self._tag_text}' is not one token of reward model '{settings.model}'")
        [self.tag] = tokens

    async def encode(self, reward_text: RewardText, prompt: Prompt, completion: str) -> TaggedTokens:
        """Return prompt and completion as token ids; no ids if the completion has no step.

        A prompt may end within the assistant's turn. Its steps are tagged as well, and not scored.
        """
        prefix = ""
        if prompt.continues and prompt.messages and reward_text.template != "policy":
            prefix = prompt.messages[-1]["content"]
            prompt = replace(prompt, messages=prompt.messages[:-1], continues=False)
        steps, scored = self._split(prefix, completion)
        if not any(scored):
            return TaggedTokens((), ())
        mark = _unused_mark([prompt.text, prefix, completion, *(m.get("content") or "" for m in prompt.messages or ())])
        between = self._separator if self._keep else ""
        content = between.join(f"{step}[{mark}:{i}]" for i, step in enumerate(steps))
        if self._tag_text in steps[0]:
            content = f"[{mark}:]{content}"
        text, special = reward_text.render(prompt, content)
        first, *rest = re.split(rf"\[{mark}:(\d*)\]", text)
        tokens, tail = await self._text.read_open(first, special=special)
        ends: list[int] = []
        for i, (step, part) in enumerate(zip(rest[::2], rest[1::2], strict=True), 1):
            if step:
                if scored[int(step)]:
                    ends.append(len(tokens))
                tokens += (self.tag,)
            if 2 * i < len(rest) and self._tag_text in part:
                tokens += self._text.tokens_as_words(part)
            elif part:
                tokens += await self._encode_after_tag(part) if step else await self._text.read(part, special=False)
        return TaggedTokens(tokens + tail, tuple(ends))

    def step_scores(self, rows: Sequence[float], tagged: TaggedTokens) -> list[float]:
        """Return the scores of the completion's steps.

        Args:
            rows: The engine's scores, one for each token, or one for each tag if it gives no others.
        """
        places = [i for i, token in enumerate(tagged.tokens) if token == self.tag]
        if len(rows) == len(tagged.tokens):
            return [rows[end] for end in tagged.ends]
        if len(rows) != len(places):
            raise PublicRewardFailure(
                f"it gave {len(rows)} scores for {len(tagged.tokens)} tokens, {len(places)} of which are step tags"
            )
        return [rows[places.index(end)] for end in tagged.ends]

    def _split(self, prefix: str, completion: str) -> tuple[list[str], list[bool]]:
        """Return the steps of the turn, and whether each has a part in the completion."""
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

    async def _encode_after_tag(self, text: str) -> Tokens:
        """Return the ids of a text that follows a tag: some tokenizers write the beginning of a text differently."""
        tokens = await self._text.read(self._tag_text + text, special=False)
        return tokens[1:] if tokens[:1] == (self.tag,) else await self._text.read(text, special=False)


def _unused_mark(texts: Sequence[str]) -> str:
    """Return a mark that is in none of `texts`."""
    number = 0
    while any(f"[step {number}:" in text for text in texts):
        number += 1
    return f"step {number}"
