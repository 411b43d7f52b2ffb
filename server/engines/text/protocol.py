"""What the server needs of a policy's tokenizer: one protocol for a model's and for the toy's."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from decoders.core import Candidate, Prompt, Sampling

Message = Mapping[str, str]
Turn = Literal["new", "continued", "none"]
"""What follows a chat's messages: a new assistant turn, the rest of the last one, or nothing that a template opens."""


class Text(Protocol):
    """A policy's tokenizer and the bounds that requests must keep to."""

    max_model_len: int
    vocab_size: int
    max_logprobs: int
    """How many most likely tokens the policy can report beside the drawn one."""

    async def encode(self, text: str) -> Prompt: ...

    def given(self, tokens: Sequence[int]) -> Prompt:
        """Return the prompt of these token ids, with the text that `encode` gives these ids for, if there is one."""

    async def chat(self, messages: Sequence[dict[str, str]], turn: Turn = "new") -> Prompt: ...

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        """Return a completion that the client sent, to be scored; `ended` adds the end-of-sequence token."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def token_strs(self, tokens: Sequence[int]) -> list[str]:
        """Return each token as the vocabulary writes it."""

    def check(self, sampling: Sampling) -> None:
        """Raise `InvalidRequest` for sampling parameters that this policy does not support."""
