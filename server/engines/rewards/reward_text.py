"""What a reward model reads: prompt and completion as token ids, by the chat template that it was trained with.

For a chat, `template` says which one:
    own     the conversation with the completion as its last turn, closed, by the reward model's own chat template
    policy  the prompt as the policy read it and the completion as it was drawn, with nothing that closes the turn
    none    the contents of the messages, a line break between two, without any template
    pair    the same but for the answer, which is the second text of the tokenizer's pair
Without a chat, the completion's text follows the prompt's, or makes a pair with it. Each text has the tokenizer's own
special tokens once.
"""

from dataclasses import dataclass
from itertools import takewhile

from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import InvalidRequest
from decoders.reply import Reply, with_calls_as_text
from server.engines.text.model_text import ModelText
from server.settings import SettingsError, Template

CACHED_PROMPTS = 256
DESCRIPTIONS: dict[Template, str] = {
    "own": "chats by its own chat template",
    "policy": "chats by the policy's chat template",
    "none": "chats as plain text",
    "pair": "chats as a pair of question and answer",
}


@dataclass(frozen=True, slots=True)
class RewardTokens:
    """Token ids; those from `start` to `stop` are the completion's, without what a template closes its turn with.

    `second` is where the second text of a pair begins, for a tokenizer that has token types.
    """

    tokens: Tokens
    start: int
    stop: int
    second: int | None = None


class RewardText:
    """Prompts and completions as token ids of a reward model, as Transformers would encode them for it.

    The policy's own ids are used instead of text where they are the same: the two tokenizers have the same rules, and
    the prompt's ids are those of its text. A drawn completion then keeps the tokens that it was drawn as, including its
    end-of-sequence token.
    """

    def __init__(self, model: str, template: Template | None, text: ModelText, policy: ModelText) -> None:
        """Raises `SettingsError` if the reward model is to use its own chat template and has none."""
        if template == "own" and not text.has_chat_template:
            raise SettingsError(f"reward model '{model}' has no chat template: set `template` to policy or none")
        self.template: Template = template or ("own" if text.has_chat_template else "policy")
        puts_tokens_after = bool(text.added[1])  # they would have to follow the completion
        self.same_tokenizer = text.same_tokens(policy) and not puts_tokens_after
        self._known: dict[tuple[Tokens, str], bool] = {}  # a search scores the same prompt again and again
        self._text = text
        self._policy = policy

    def __str__(self) -> str:
        handed = self.same_tokenizer and self.template != "pair"
        ids = "token ids handed over where they are the same" if handed else "no token ids handed over"
        return f"{DESCRIPTIONS[self.template]}; {ids}"

    async def uses_policy_ids(self, prompt: Prompt) -> bool:
        """Return whether the prompt's token ids are the ones that its text would be read as."""
        if not self.same_tokenizer or self.template == "pair":
            return False
        if prompt.messages is not None:
            return self.template == "policy"
        key = (prompt.tokens, prompt.text)
        if key not in self._known:
            same = await self._text.read(prompt.text, special=True) == prompt.tokens
            if len(self._known) >= CACHED_PROMPTS:
                self._known.clear()
            self._known[key] = same
        return self._known[key]

    async def policy_ids(self, prompt: Prompt, candidate: Candidate) -> RewardTokens:
        """Return the policy's own ids. A text that a stop string cut is encoded, since its ids run past the cut."""
        cut = candidate.trimmed
        own = await self._text.read(candidate.text, special=False) if cut else candidate.tokens
        return RewardTokens(prompt.tokens + own, len(prompt.tokens), len(prompt.tokens) + len(own))

    async def encode(self, prompt: Prompt, completion: str | Reply, *, located: bool) -> RewardTokens:
        """Return the ids of the text, by the template; `located` finds which ids are the completion's."""
        if self.template == "pair":
            return self._pair(prompt, completion)
        tokens = await self._encode(prompt, completion)
        if not located:
            return RewardTokens(tokens, 0, len(tokens))
        empty = await self._encode(prompt, "")
        start = _common_prefix(tokens, empty)
        return RewardTokens(tokens, start, len(tokens) - _common_prefix(tokens[start:][::-1], empty[start:][::-1]))

    async def _encode(self, prompt: Prompt, completion: str | Reply) -> Tokens:
        text, special = self.render(prompt, completion)
        return await self._text.read(text, special=special)

    def _pair(self, prompt: Prompt, completion: str | Reply) -> RewardTokens:
        answer = completion if isinstance(completion, str) else completion.text
        question = self._policy.without_added_tokens(prompt)
        if prompt.messages is not None:
            *asked, answer = [message["content"] for message in with_calls_as_text(prompt.answered(answer))]
            question = "\n".join(asked)
        tokens, second = paired(self._text, question, answer)
        return RewardTokens(tokens, 0, len(tokens), second)

    def render(self, prompt: Prompt, completion: str | Reply) -> tuple[str, bool]:
        """Return prompt and completion as one text, and whether the tokenizer is to add its special tokens to it.

        A chat template that knows no calls of tools reads them as text.
        """
        text = completion if isinstance(completion, str) else completion.text
        if prompt.messages is not None and self.template == "own":
            knows = self._text.template_knows_calls
            messages = prompt.answered(completion) if knows else with_calls_as_text(prompt.answered(text))
            try:
                rendered = self._text.render(messages, reply=False, tools=prompt.tools)
            except InvalidRequest as error:
                raise InvalidRequest(f"A reward model cannot read this chat. {error}", "messages") from error
            return rendered, False
        if prompt.messages is not None and self.template == "policy" and self.same_tokenizer:
            return prompt.text + text, False
        return plain_text(prompt, text, self.template, self._policy), True


def plain_text(prompt: Prompt, completion: str, template: Template, policy: ModelText | None) -> str:
    """Return prompt and completion as one text, without the special tokens that the policy's tokenizer puts first."""
    if prompt.messages is not None and template == "none":
        return "\n".join(message["content"] for message in with_calls_as_text(prompt.answered(completion)))
    return (prompt.text if policy is None else policy.without_added_tokens(prompt)) + completion


def paired(text: ModelText, first: str, second: str) -> tuple[Tokens, int | None]:
    """Return the tokenizer's pair of two texts, and where the second begins if the tokenizer has token types."""
    encoded = text.tokenizer(first, second)
    types = list(encoded.get("token_type_ids", ()))
    return tuple(encoded["input_ids"]), types.index(1) if 1 in types else None


def _common_prefix(one: Tokens, other: Tokens) -> int:
    """Return how many tokens the two have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
