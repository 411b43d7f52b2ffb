"""The toy as a server's policy has it: its words as text. `decant serve --toy` serves it, without an engine."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import fields

from decoders.core import Candidate, Prompt, Sampling, Tokens
from decoders.errors import InvalidRequest
from decoders.testing import EOS, WORDS
from server.engines.text import Chat

_SUPPORTED = frozenset(
    {"n", "max_tokens", "temperature", "top_k", "logprobs", "stream", "skip_special_tokens", "logit_bias", "guides"}
)
_DEFAULTS = Sampling()
ASKS_NOTHING = (("reasoning_effort", "none"), ("include_reasoning", False))
"""What a chat may ask of a policy that does not reason."""
LONG = 4096  # characters; a longer text is encoded outside the event loop
_WORD = re.compile(r"\S+")


def _tokens(text: str) -> Tokens:
    known = {word.strip(): token for token, word in enumerate(WORDS)}
    words = (match[0] for match in _WORD.finditer(text))  # one after the other: a list of them all may be large
    return tuple(known.get(word, 1 + sum(map(ord, word)) % (len(WORDS) - 1)) for word in words)


class ToyText:
    """Text for the toy: its own words; any other word stands for the one that its letters add up to."""

    max_model_len = 64
    vocab_size = len(WORDS)
    max_logprobs = len(WORDS)
    priorities = False

    async def encode(self, text: str, *, special: bool = True, cut: bool = False) -> Prompt:  # noqa: ARG002
        return Prompt(_tokens(text) if len(text) < LONG else await asyncio.to_thread(_tokens, text), text)

    async def given(self, tokens: Sequence[int]) -> Prompt:
        return Prompt(tuple(tokens), self.decode(tokens))

    async def chat(self, chat: Chat) -> Prompt:
        asked = [name for name, value in chat.options.items() if (name, value) not in ASKS_NOTHING]
        if asked:
            name = asked[0]
            raise InvalidRequest(f"The toy policy does not support '{name}'.", name)
        prompt = await self.encode("\n".join(m["content"] or "" for m in chat.messages))
        return Prompt(prompt.tokens, prompt.text, chat.messages, chat.turn == "continued")

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        tokens = (await self.encode(text)).tokens
        return Candidate((*tokens, EOS) if ended else tokens, text, "stop" if ended else "length")

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(WORDS[t] for t in tokens)

    def token_strs(self, tokens: Sequence[int]) -> list[str]:
        return [WORDS[t] for t in tokens]

    def check(self, sampling: Sampling) -> None:
        """Raise `InvalidRequest` for sampling parameters that a table cannot honour."""
        for f in fields(Sampling):
            if f.name not in _SUPPORTED and getattr(sampling, f.name) != getattr(_DEFAULTS, f.name):
                raise InvalidRequest(f"The toy policy does not support '{f.name}'.", f"sampling.{f.name}")
        wrong = [t for t in sampling.logit_bias if not 0 <= t < self.vocab_size]
        if wrong:
            raise InvalidRequest(
                f"Token ids {wrong[:5]} are outside the vocabulary of {self.vocab_size} tokens.", "sampling.logit_bias"
            )
