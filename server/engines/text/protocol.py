"""What the server needs of a policy's tokenizer: one protocol for a model's and for the toy's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from decoders.core import Candidate, Grammar, Prompt, Sampling

Message = Mapping[str, Any]
Turn = Literal["new", "continued", "none"]
"""What follows a chat's messages: a new assistant turn, the rest of the last one, or nothing that a template opens."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat as a client sent it, in OpenAI's fields.

    `options` are further fields of the request that say how the chat is rendered and its answers are read: `tools`,
    `tool_choice`, `chat_template_kwargs` and the like, in vLLM's names. `grammar` and `skip_special_tokens` are what
    the request asks of the answer, which a choice of tools may have to change. `cut` says that its
    tokens will be cut to the context.
    """

    messages: tuple[Message, ...]
    turn: Turn = "new"
    options: Mapping[str, Any] = field(default_factory=dict)
    grammar: Grammar | None = None
    skip_special_tokens: bool = True
    cut: bool = False

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.options.get("tools", ()))


class Text(Protocol):
    """A policy's tokenizer and the bounds that requests must keep to."""

    max_model_len: int
    vocab_size: int
    max_logprobs: int
    """How many most likely tokens the policy can report beside the drawn one."""
    priorities: bool
    """Whether requests are served by their priority."""

    async def encode(self, text: str, *, special: bool = True, cut: bool = False) -> Prompt:
        """Return a text as the policy's tokens, with those that the tokenizer adds if `special`.

        Raises `InvalidRequest` for a text that is known to be too long before all of it is read; `cut` says that its
        tokens will be cut to the context.
        """

    async def given(self, tokens: Sequence[int]) -> Prompt:
        """Return the prompt of these token ids, with the text that `encode` gives these ids for, if there is one."""

    async def chat(self, chat: Chat) -> Prompt:
        """Return a chat as the policy reads it. Raises `InvalidRequest` for what the policy cannot read or do."""

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        """Return a completion that the client sent, to be scored; `ended` adds the end-of-sequence token."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def token_strs(self, tokens: Sequence[int]) -> list[str]:
        """Return each token as the vocabulary writes it."""

    def check(self, sampling: Sampling) -> None:
        """Raise `InvalidRequest` for sampling parameters that this policy does not support."""
