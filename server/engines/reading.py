"""What a reward model reads: prompt and completion as token ids, by the chat template that it was trained with.

Of a chat, `template` says which one:
    own     the conversation with the completion as its last turn, closed, by the reward model's own chat template
    policy  the prompt as the policy read it and the completion as it was drawn after it, with nothing to close it
    none    what was said, message by message, a line break between two, without any template
Without a chat a completion's text follows its prompt's. Each text has the tokenizer's own special tokens once.
"""

from dataclasses import dataclass
from itertools import takewhile

from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import InvalidRequest
from server.engines.text import ModelText
from server.settings import SettingsError, Template

KEPT = 256  # prompts
READS: dict[Template, str] = {
    "own": "chats by its own chat template",
    "policy": "chats by the policy's chat template",
    "none": "chats as plain text",
}


@dataclass(frozen=True, slots=True)
class Read:
    """Token ids, those from `start` to `stop` the completion's: what a template closes its turn with is not of it."""

    tokens: Tokens
    start: int
    stop: int


class Reading:
    """Prompts and completions as token ids of a reward model, as Transformers would encode them for it.

    The policy's own ids are handed over in place of text where they are the same: the two tokenizers go by the same
    rules, and the prompt's ids are those of the text that would be read. A drawn completion then keeps the tokens that
    it was drawn as, its end-of-sequence token included.
    """

    def __init__(self, model: str, template: Template | None, text: ModelText, policy: ModelText) -> None:
        """Raises `SettingsError` if the reward model is to use a chat template that it has not."""
        if template == "own" and not text.has_chat_template:
            raise SettingsError(f"reward model '{model}' has no chat template: set `template` to policy or none")
        self.template: Template = template or ("own" if text.has_chat_template else "policy")
        self.same = (
            text.same_tokens(policy) and not text.added[1]
        )  # what comes after a text stands after the completion
        self._known: dict[tuple[Tokens, str], bool] = {}  # prompts that a search asks about again and again
        self._text = text
        self._policy = policy

    def __str__(self) -> str:
        same = "token ids handed over where they are the same" if self.same else "no token ids handed over"
        return f"{READS[self.template]}; {same}"

    async def hands_over(self, prompt: Prompt) -> bool:
        """Whether the prompt's token ids are the ones that its text would be read as."""
        if not self.same:
            return False
        if prompt.messages is not None:
            return self.template == "policy"
        key = (prompt.tokens, prompt.text)
        if key not in self._known:
            same = await self._text.read(prompt.text, special=True) == prompt.tokens
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[key] = same
        return self._known[key]

    async def ids(self, prompt: Prompt, candidate: Candidate) -> Read:
        """The policy's own. Text that a stop string cut is encoded, since its ids run past the cut."""
        cut = candidate.trimmed
        own = await self._text.read(candidate.text, special=False) if cut else candidate.tokens
        return Read(prompt.tokens + own, len(prompt.tokens), len(prompt.tokens) + len(own))

    async def encoded(self, prompt: Prompt, completion: str, *, located: bool) -> Read:
        """Those of the text, by the template; with `located`, it is found which are the completion's."""
        tokens = await self._encode(prompt, completion)
        if not located:
            return Read(tokens, 0, len(tokens))
        empty = await self._encode(prompt, "")
        start = _agree(tokens, empty)
        return Read(tokens, start, len(tokens) - _agree(tokens[start:][::-1], empty[start:][::-1]))

    async def _encode(self, prompt: Prompt, completion: str) -> Tokens:
        text, special = self.written(prompt, completion)
        return await self._text.read(text, special=special)

    def written(self, prompt: Prompt, completion: str) -> tuple[str, bool]:
        """The whole as text, and whether the tokenizer is to add its special tokens to it."""
        if prompt.messages is not None and self.template == "own":
            try:
                rendered = self._text.render(prompt.answered(completion), reply=False)
            except InvalidRequest as error:
                raise InvalidRequest(f"A reward model cannot read this chat. {error}", "messages") from error
            return rendered, False
        if prompt.messages is not None and self.template == "policy" and self.same:
            return prompt.text + completion, False
        return plain(prompt, completion, self.template, self._policy), True


def plain(prompt: Prompt, completion: str, template: Template, policy: ModelText | None) -> str:
    """Prompt and completion as one text, without the special tokens that the policy's tokenizer puts before it."""
    if prompt.messages is not None and template == "none":
        return "\n".join(message["content"] for message in prompt.answered(completion))
    return (prompt.text if policy is None else policy.unmarked(prompt)) + completion


def _agree(one: Tokens, other: Tokens) -> int:
    """How many tokens the two begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
