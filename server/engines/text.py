"""Between text and a model's tokens: encoding, chat templates, and the bounds that a request must keep to."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal, Protocol

from decoders.core import Candidate, Prompt, Sampling, Tokens
from decoders.errors import InvalidRequest
from server.engines.pieces import Pieces

Message = Mapping[str, str]
Turn = Literal["new", "continued", "none"]
"""What comes after a chat: a turn of the assistant, the rest of its last one, or whatever the policy says."""
CONTEXT = 8  # last tokens of a prompt, among which there is a whole character before an incomplete one
LONGEST = 4  # bytes of a character, in UTF-8
PARTIAL = "�"  # what incomplete bytes decode to
LONG = 4096  # characters; a longer text is encoded outside the event loop


class Text(Protocol):
    """What the server needs of a policy's tokenizer."""

    max_model_len: int
    vocab_size: int
    max_logprobs: int
    """How many likeliest tokens the policy can report with the one that is drawn."""

    async def encode(self, text: str) -> Prompt: ...

    def given(self, tokens: Sequence[int]) -> Prompt:
        """The prompt that token ids are: its text is the one that `encode` gives these ids for, where there is one."""

    async def chat(self, messages: Sequence[dict[str, str]], turn: Turn = "new") -> Prompt: ...

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        """A completion that was not drawn here, to be scored; `ended` adds the end-of-sequence token."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def check(self, sampling: Sampling) -> None:
        """Raise `InvalidRequest` for sampling parameters that this policy cannot honour."""


class ModelText:
    """A Transformers tokenizer as vLLM loaded it."""

    def __init__(self, tokenizer: Any, max_model_len: int, vocab_size: int, max_logprobs: int = 20) -> None:
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(1, "tokenizer")  # one: fast tokenizers do not like to be shared
        self.max_model_len = max_model_len
        self.vocab_size = vocab_size
        self.max_logprobs = min(max_logprobs, vocab_size)

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    @cached_property
    def pieces(self) -> Pieces:
        return Pieces(self._tokenizer)

    @property
    def has_chat_template(self) -> bool:
        return bool(getattr(self._tokenizer, "chat_template", None))

    async def encode(self, text: str) -> Prompt:
        return Prompt(self._once(await self._encode(text, special=True)), text)

    def given(self, tokens: Sequence[int]) -> Prompt:
        return Prompt(tuple(tokens), self.decode(tokens[len(self._head) :] if self._begins(tokens) else tokens))

    async def chat(self, messages: Sequence[dict[str, str]], turn: Turn = "new") -> Prompt:
        if turn == "continued" and not messages[-1]["content"].strip():  # a turn of which there is nothing yet
            text = self.render(messages[:-1])
            messages = [*messages[:-1], {**messages[-1], "content": ""}]
        else:
            text = self.render(messages, reply=turn == "new", continued=turn == "continued")
        if turn == "continued" and not text.endswith(messages[-1]["content"]):  # a template that strips its messages
            messages = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"].rstrip()}]
        return Prompt(await self._encode(text, special=False), text, tuple(messages), turn == "continued")

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        eos = self._tokenizer.eos_token_id
        tokens = await self._encode(text, special=False)
        return Candidate(tokens + ((eos,) if ended and eos is not None else ()), text, "stop" if ended else "length")

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def incomplete(self, tokens: Tokens) -> int:
        """How many of the last tokens hold the first bytes of a character that they do not complete."""
        end = tokens[-CONTEXT:]
        if not self.decode(end).endswith(PARTIAL):
            return 0
        # By their bytes: some decoders take a whole run of bytes for incomplete, if the last of them is.
        data = [self.pieces.raw(token) for token in end]
        said = [b"".join(data[: len(data) - n]).decode(errors="replace") for n in range(min(LONGEST, len(end) + 1))]
        return next((n for n, text in enumerate(said) if not text.endswith(PARTIAL)), 0)

    def offsets(self, prompt: Prompt) -> list[tuple[int, int]] | None:
        """Where each of a prompt's tokens begins and ends in its text; None where that is not known."""
        if not self._tokenizer.is_fast:
            return None
        found = self._tokenizer(prompt.text, return_offsets_mapping=True, add_special_tokens=True)
        added = len(found["input_ids"]) - len(prompt.tokens)  # special tokens that the text has itself: see `read`
        same = added >= 0 and tuple(found["input_ids"][added:]) == prompt.tokens
        return list(found["offset_mapping"][added:]) if same else None

    def render(self, messages: Sequence[Mapping[str, str]], *, reply: bool = True, continued: bool = False) -> str:
        """The chat as text, open for the assistant's turn if `reply`, or within its last message if `continued`."""
        if not self.has_chat_template:
            raise InvalidRequest("This model has no chat template: use /v1/completions.", "messages")
        try:
            rendered = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=reply, continue_final_message=continued
            )
        except Exception as error:  # a template raises whatever its author chose
            raise InvalidRequest(f"The chat template refuses these messages: {error}", "messages") from error
        return str(rendered)

    async def _encode(self, text: str, *, special: bool) -> Tokens:
        if len(text) < LONG:
            return self.tokens(text, special=special)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self.tokens(text, special=special)
        )

    def tokens(self, text: str, *, special: bool) -> Tokens:
        """The text's token ids. With `special`, those that the tokenizer adds too, as it does by itself."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=special))

    def literally(self, text: str) -> Tokens:
        """The text's token ids, those of special tokens not among them: where their names stand, they are words."""
        try:
            return tuple(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
        except TypeError:  # a tokenizer that has no such choice
            return self.tokens(text, special=False)

    async def read(self, text: str, *, special: bool) -> Tokens:
        """As `tokens`, but of special tokens that the text itself begins with, none is added a second time."""
        tokens = await self._encode(text, special=special)
        return self._once(tokens) if special else tokens

    async def read_open(self, text: str, *, special: bool) -> tuple[Tokens, Tokens]:
        """As `read` for a text that goes on: what comes after the whole is given apart."""
        tokens = await self.read(text, special=special)
        after = self.added[1] if special else ()
        return (tokens[: -len(after)], after) if after and tokens[-len(after) :] == after else (tokens, ())

    def unmarked(self, prompt: Prompt) -> str:
        """The prompt's text without the special tokens that this tokenizer adds, where they are written out in it."""
        written = self.decode(self._head)
        return prompt.text.removeprefix(written) if self._begins(prompt.tokens) else prompt.text

    @property
    def _head(self) -> Tokens:
        return self.added[0]

    @cached_property
    def added(self) -> tuple[Tokens, Tokens]:
        """The special tokens that the tokenizer puts before a text and after it."""
        bare, whole = self.tokens("a", special=False), self.tokens("a", special=True)
        starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return next(((whole[:i], whole[i + len(bare) :]) for i in starts), ((), ()))

    def _begins(self, tokens: Sequence[int]) -> bool:
        """Whether tokens begin with those that the tokenizer puts before a text."""
        return tuple(tokens[: len(self._head)]) == self._head

    def _once(self, tokens: Tokens) -> Tokens:
        """Tokens of a text, those before it not twice where the text has them too."""
        return tokens[len(self._head) :] if self._head and self._begins(tokens[len(self._head) :]) else tokens

    def check(self, sampling: Sampling) -> None:
        for name in ("logit_bias", "stop_token_ids"):
            wrong = [t for t in getattr(sampling, name) if not 0 <= t < self.vocab_size]
            if wrong:
                raise InvalidRequest(
                    f"Token ids {wrong[:5]} are outside the vocabulary of {self.vocab_size} tokens.", name
                )

    def same_tokens(self, other: "ModelText") -> bool:
        """Whether the two provably map every text to the same ids, those of special tokens included."""
        own, others = self._rules, other._rules
        return own is not None and own == others

    @property
    def _rules(self) -> Any:
        """All that a fast tokenizer goes by; None for one that does not say."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        rules = json.loads(backend.to_str())
        of_calls = {"truncation": None, "padding": None}  # what the last call asked for
        return {**rules, **of_calls, "split": getattr(self._tokenizer, "split_special_tokens", False)}
